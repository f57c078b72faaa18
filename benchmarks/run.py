"""Measure ourselves beside our peers: pairs, interleaved, in one run; medians and their ratio.

    python benchmarks/run.py [--rounds 3] [NAME ...]

Everything happens on an embedded server of its own, with fsync on, in a temporary directory. Times
are those of whole commands, our start-up of Python and Django included; a bar that is missed is
printed as missed. Backups, restores and copies have files of their own: backup.py, restore.py,
copy.py.
"""

from __future__ import annotations

import time

import psycopg2
from harness import Bench, median, options_of, print_heading, report, started

from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.databases import drop_database, scratch_name
from dbops.postgres.swap import swap_databases


def bench_swap(bench: Bench) -> None:
    outages = []
    target = bench.control.with_database("swapped")
    incoming = scratch_name("swapped", "incoming", "0" * 12)
    previous = scratch_name("swapped", "previous", "0" * 12)
    for name in ("swapped", incoming):
        bench.sql(f'CREATE DATABASE "{name}"')
    for _ in range(max(5, bench.rounds)):
        clients = [psycopg2.connect(**target.libpq_keywords()) for _ in range(80)]
        outages.append(
            swap_databases(target, incoming=incoming, target="swapped", previous=previous)
        )
        for client in clients:
            client.close()
        bench.sql(f'ALTER DATABASE "{previous}" RENAME TO "{incoming}"')
    with session(bench.control) as connection:
        for name in ("swapped", incoming):
            drop_database(connection, name)
    report("swap with 80 clients : 100 ms", 1.0, median(outages), 100.0, "ms")


def bench_triggers(bench: Bench) -> None:
    from dbops.postgres import triggers
    from dbops.postgres.process import do_not_poll

    def tables(database: str) -> None:
        bench.shell(f"createdb {database}")
        bench.sql(
            """DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE public.t_%s (id int,
               created_at timestamptz, updated_at timestamptz, created_by text, updated_by text)',
               n); END LOOP; END $$""",
            database,
        )

    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for round_ in range(bench.rounds):
        for name in ("ours", "peer"):
            database = f"triggers_{name}_{round_}"
            tables(database)
            with session(bench.control.with_database(database)) as connection:
                triggers.install(connection, base_only=True, poll=do_not_poll)
                began = time.monotonic()
                if name == "ours":
                    triggers.install(connection, poll=do_not_poll)
                else:
                    execute(connection, _BARE)
                times[name].append(time.monotonic() - began)
                assert fetch_value(connection, "SELECT count(*) FROM pg_trigger") == 2000
            bench.sql(f"DROP DATABASE {database}")
    report("apply_triggers, 1,000 tables : bare DO block", 2.0,
           median(times["ours"]), median(times["peer"]), "s")  # fmt: skip


def bench_insert(bench: Bench) -> None:
    """100,000 rows into a table with a primary key and two indexes, with and without triggers."""
    from dbops.postgres import triggers
    from dbops.postgres.process import do_not_poll

    columns = {
        "updated_at": "updated_at timestamptz",
        "timestamps": "created_at timestamptz, updated_at timestamptz",
        "actors": "created_by varchar(15), updated_by varchar(15)",
    }
    bench.shell("createdb inserts")
    for name, kinds in columns.items():
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for round_ in range(max(11, bench.rounds)):
            for contender in ("ours", "peer"):
                with session(bench.control.with_database("inserts")) as connection:
                    execute(connection, "DROP TABLE IF EXISTS public.t")
                    execute(
                        connection,
                        f"CREATE TABLE public.t (id int PRIMARY KEY, a text, b int, {kinds})",
                    )
                    execute(connection, "CREATE INDEX ON public.t (a)")
                    execute(connection, "CREATE INDEX ON public.t (b)")
                    if contender == "ours":
                        triggers.install(connection, poll=do_not_poll)
                    began = time.monotonic()
                    execute(
                        connection,
                        """INSERT INTO public.t (id, a, b)
                           SELECT g, md5(g::text), g % 1000 FROM generate_series(1, 100000) g""",
                    )
                    if round_:  # the first warms up
                        times[contender].append(time.monotonic() - began)
        report(f"insert, trigger on {name} : no trigger", 1.3,
               median(times["ours"]), median(times["peer"]), "s")  # fmt: skip
    bench.sql("DROP DATABASE inserts")


_BARE = """DO $$ BEGIN FOR n IN 1..1000 LOOP
    EXECUTE format('CREATE TRIGGER a BEFORE INSERT OR UPDATE ON public.t_%s
        FOR EACH ROW EXECUTE FUNCTION skinspire.set_timestamps()', n);
    EXECUTE format('CREATE TRIGGER b BEFORE INSERT OR UPDATE ON public.t_%s
        FOR EACH ROW EXECUTE FUNCTION skinspire.set_actors('''', '''')', n);
END LOOP; END $$"""
BENCHES = {
    "swap": bench_swap, "triggers": bench_triggers, "insert": bench_insert,
}  # fmt: skip


def main() -> None:
    parser = options_of(__doc__ or "")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    options = parser.parse_args()
    with started(options.rounds) as bench:
        print_heading()
        for name in options.names or BENCHES:
            BENCHES[name](bench)


if __name__ == "__main__":
    main()
