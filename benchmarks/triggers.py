"""apply_triggers on 1,000 tables beside a bare DO block; bulk inserts with and without triggers.

    python benchmarks/triggers.py [--rounds 11]

What the commands themselves need to start is not among the times: what counts is the database's.
"""

from __future__ import annotations

import time

from harness import Bench, Row, median, options_of, print_heading, report, show, started
from harness import write_results as write

from dbops.postgres import triggers
from dbops.postgres.connection import Connection, execute, fetch_value, session
from dbops.postgres.process import do_not_poll
from dbops.postgres.triggers import HistoryRule, Wishes

_TABLES = """DO $$ BEGIN FOR n IN 1..1000 LOOP
    EXECUTE format('CREATE TABLE public.t_%s (id int PRIMARY KEY, created_at timestamptz,
        updated_at timestamptz, created_by text, updated_by text)', n);
END LOOP; END $$"""
_BARE = """DO $$ BEGIN FOR n IN 1..1000 LOOP
    EXECUTE format('CREATE TRIGGER a BEFORE INSERT OR UPDATE ON public.t_%s
        FOR EACH ROW EXECUTE FUNCTION skinspire.set_timestamps()', n);
    EXECUTE format('CREATE TRIGGER b BEFORE INSERT OR UPDATE ON public.t_%s
        FOR EACH ROW EXECUTE FUNCTION skinspire.set_actors('''', '''')', n);
END LOOP; END $$"""
# The same with the digest by which drift is told: what is left is the survey and the checks.
_TOLD = _BARE.replace(
    "END LOOP;",
    """
    EXECUTE format('COMMENT ON TRIGGER a ON public.t_%s IS %L', n, sha256(n::text::bytea)::text);
    EXECUTE format('COMMENT ON TRIGGER b ON public.t_%s IS %L', n, sha256(n::text::bytea)::text);
END LOOP;""",
)
_EVERYTHING = Wishes(users="public.people", history=(HistoryRule("t_*"),))
_ROWS = 100_000
_COLUMNS = {
    "updated_at": "updated_at timestamptz",
    "created_at and updated_at": "created_at timestamptz, updated_at timestamptz",
    "created_by and updated_by": "created_by varchar(15), updated_by varchar(15)",
    "both, as a user's id": "created_by int REFERENCES public.people,"
    " updated_by int REFERENCES public.people",
}
_METHOD = (
    f"apply: two triggers on each of 1,000 tables, functions there already, in a new database each "
    f"time; its time is that of everything it does in the database, the survey included. Inserts: "
    f"{_ROWS:,} rows in one statement into a table with a primary key and two indexes, on an "
    f"open connection, the first round left out. Row history has no bar: it writes a second row, "
    f"and is opted in for the few tables that need it; the bar of inserts is one of timestamps."
)


def apply(bench: Bench) -> list[Row]:
    """Applying, applying again where all is in place, and applying with row history."""
    contenders = ("ours", "bare", "told", "history")
    times: dict[str, list[float]] = {name: [] for name in (*contenders, "again")}
    for round_ in range(bench.rounds):
        for name in contenders[:: -1 if round_ % 2 else 1]:
            database = f"triggers_{name}_{round_}"
            bench.shell(f"createdb {database}")
            bench.sql(_TABLES, database)
            with session(bench.control.with_database(database)) as connection:
                triggers.install(connection, base_only=True, poll=do_not_poll)
                times[name].append(_timed(connection, name))
                if name == "ours":
                    times["again"].append(_timed(connection, name))
            bench.sql(f"DROP DATABASE {database}")
    found = {name: median(values) for name, values in times.items()}
    return [
        report("apply_triggers, 1,000 tables : bare DO block", 2.0, found["ours"], found["bare"],
               "s"),
        show(Row("the same : DO block that writes the digests, too", found["ours"], found["told"],
                 "s", None)),
        show(Row("apply_triggers again, all in place", found["again"], None, "s", None)),
        show(Row("apply_triggers with row history : bare DO block without", found["history"],
                 found["bare"], "s", None)),
    ]  # fmt: skip


def _timed(connection: Connection, name: str) -> float:
    wishes = _EVERYTHING if name == "history" else Wishes()
    began = time.monotonic()
    if name in ("bare", "told"):
        execute(connection, _BARE if name == "bare" else _TOLD)
    else:
        triggers.install(connection, wishes, poll=do_not_poll)
    took = time.monotonic() - began
    made = fetch_value(connection, "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal")
    assert made == (3001 if name == "history" else 2000)
    return took


def insert(bench: Bench) -> list[Row]:
    """A bulk insert with each trigger, and without."""
    bench.shell("createdb inserts")
    bench.sql("CREATE TABLE public.people (id int PRIMARY KEY)", "inserts")
    bench.sql("INSERT INTO public.people VALUES (7)", "inserts")
    rows = []
    for name, columns in _COLUMNS.items():
        bar = 1.3 if "_at" in name else None
        times = _inserts(bench, columns, Wishes(users="public.people"))
        rows.append(show(Row(f"insert, trigger on {name} : no trigger", *times, "s", bar)))
    times = _inserts(bench, "note text", Wishes(history=(HistoryRule("public.t"),)))
    rows.append(show(Row("insert, row history : no trigger", *times, "s", None)))
    bench.sql("DROP DATABASE inserts")
    return rows


def _inserts(bench: Bench, columns: str, wishes: Wishes) -> tuple[float, float]:
    """(with our triggers, without)."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for round_ in range(bench.rounds + 1):
        for ours in (True, False)[:: -1 if round_ % 2 else 1]:
            with session(bench.control.with_database("inserts")) as connection:
                execute(connection, "DROP TABLE IF EXISTS public.t")
                table = f"CREATE TABLE public.t (id int PRIMARY KEY, a text, b int, {columns})"
                execute(connection, table)
                execute(connection, "CREATE INDEX ON public.t (a); CREATE INDEX ON public.t (b)")
                execute(connection, "SELECT set_config('skinspire.actor_id', '7', false)")
                if ours:
                    triggers.install(connection, wishes, poll=do_not_poll)
                began = time.monotonic()
                execute(
                    connection,
                    f"""INSERT INTO public.t (id, a, b) SELECT g, md5(g::text), g % 1000
                          FROM generate_series(1, {_ROWS}) g""",
                )
                if round_:
                    times[ours].append(time.monotonic() - began)
    return median(times[True]), median(times[False])


def main() -> None:
    parser = options_of(__doc__ or "")
    parser.set_defaults(rounds=11)
    options = parser.parse_args()
    with started(options.rounds) as bench:
        print_heading()
        rows = [*apply(bench), *insert(bench)]
        title = "Triggers: applying them, and what a row costs"
        write(bench, "triggers", 1, _METHOD, rows, title)


if __name__ == "__main__":
    main()
