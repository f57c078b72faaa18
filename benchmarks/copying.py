"""What copy.py measures: one database copied to another, by us and by others, and each copy proven
in the same way outside its time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backup import MEMORY_BAR_MB, memory_by_process
from harness import (
    MEBI,
    Bench,
    Reader,
    Row,
    Watched,
    clients,
    median,
    options_of,
    print_heading,
    show,
    started,
    write_results,
)  # fmt: skip

from dbops.postgres.catalog import USER_SCHEMA, count_rows
from dbops.postgres.connection import execute, fetch_all, session
from dbops.postgres.embedded import EmbeddedServer
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll

CLIENTS = 80
TABLES = 10_000
MOST_FOR_PGCOPYDB = 1_000
DSLR = "DSLR[psycopg2-binary]==0.6.0"
# Where a transaction makes or locks all of 10,000 tables, each with its indexes and TOAST.
LOCKS = {"max_locks_per_transaction": "1024"}
METHOD = (
    "Before each command VACUUM ANALYZE of the source and CHECKPOINT of both servers; caches are "
    "warm. Time is that of the whole command: ours with the start of Python and Django, its proof "
    "and the dropping of what the copy before had kept; of the others the making of the new "
    "database, not the dropping of the old one. After every copy the rows of all tables and the "
    "number of tables, indexes, sequences, views and constraints are compared with the source's, "
    "outside the time. Two workers each: copy_db --jobs by CPUs, pgcopydb --table-jobs 2 "
    "--index-jobs 2; pg_dump and psql are one process each, psql in one transaction (-1). Two "
    "servers are two of the same version on this machine, over loopback. Masks: rules for every "
    "column of the clinic's tables (MASKING in copying.py); pgbench's own, about half of the "
    "bytes, hold nothing to mask. small: 200 tables, 1,500 rows each. Catalogue: 10,000 tables "
    "with a TOAST table, two indexes and 5 rows each, one round, max_locks_per_transaction 1024 on "
    "both servers; without pgcopydb 0.10, of which two processes grew to 12 GB each there until "
    "the kernel ended them. The outage with clients is what the command itself measured from the "
    f"first session ended to the commit of the swap, with {CLIENTS} sessions and a reader, which "
    "polls one row every 5 ms, on the target. Memory and temporary disk (the servers' own not "
    "among them) as in backup.md."
)
MASKING = """
[safe]
columns = ["public.accounts_*", "public.auth_*", "public.authtoken_*", "public.axes_*",
    "public.django_*", "public.token_blacklist_*", "public.pgbench_*"]

["clinic.patients"]
mrn = "hash"
name = "name"
born = { strategy = "date_shift", person = "id" }
phone = "phone"
["clinic.patients".history]
strategy = "jsonb"
["clinic.patients".history.paths]
blood = "keep"
"allergies[]" = "free_text"
smoker = "keep"
visits = "keep"
bmi = "keep"

["clinic.appointments"]
at = { strategy = "date_shift", person = "patient_id" }
status = "keep"
reason = "free_text"

["clinic.notes"]
author = "hash"
body = "free_text"
written_at = { strategy = "date_shift", person = "patient_id" }
["clinic.notes".findings]
strategy = "jsonb"
["clinic.notes".findings.paths]
site = "free_text"
size_mm = "keep"
photo = "hash"
"tags[]" = "keep"
"""


@dataclass(frozen=True)
class Copied:
    """One copy that was proven."""

    watched: Watched
    report: Mapping[str, Any] = field(default_factory=dict)
    """What our command said with --json."""
    wait: float = 0.0
    """Seconds a reader of the target waited at most."""


class Copies:
    """The contenders, with one source and one server to copy it to."""

    def __init__(self, bench: Bench, source: ConnectionParams, server: EmbeddedServer) -> None:
        self._bench, self._source, self._server = bench, source, server
        self._expected = _contents(source)

    def settle(self) -> None:
        self._bench.settle(self._source.database)
        with session(self._server.params("postgres", superuser=True)) as connection:
            execute(connection, "CHECKPOINT")

    def ours(self, *options: str, source: str = "test") -> Copied:
        """``copy_db SOURCE dev``."""
        seen = self._bench.watch_ours("copy_db", source, "dev", *options, "--noinput", "--json")
        self._prove("dev")
        return Copied(seen, json.loads(seen.stdout))

    def ours_with_clients(self) -> Copied:
        """The same with a reader and others on the target, which is on the bench's own server."""
        with clients(self._server.params("dev"), CLIENTS), Reader(self._bench, "dev") as reader:
            copied = self.ours()
        return Copied(copied.watched, copied.report, reader.longest)

    def pipe(self) -> Copied:
        return self._by_shell(
            f"{self._createdb}; pg_dump '{_uri(self._source)}' "
            f"| psql -qX1 -v ON_ERROR_STOP=1 -o /dev/null '{self._uri('peer')}'"
        )

    def pgcopydb(self) -> Copied:
        work = self._bench.temporary / "pgcopydb"
        copied = self._by_shell(
            f"{self._createdb}; pgcopydb clone --source '{_uri(self._source)}' "
            f"--target '{self._uri('peer')}' --table-jobs 2 --index-jobs 2 --dir '{work}'"
        )
        shutil.rmtree(work)
        return copied

    def template(self, method: str) -> Copied:
        """The bare statement. ``file_copy_method`` exists from PostgreSQL 18 on."""
        return self._by_shell(
            f"psql -qX '{self._uri('postgres')}' -c 'SET file_copy_method = {method}' "
            f"-c 'CREATE DATABASE peer TEMPLATE {self._source.database} STRATEGY file_copy'"
        )

    def dslr_snapshot(self, program: Path) -> Copied:
        """A copy of the source under another name. As superuser: DSLR ends all sessions of the
        database, and an ordinary role may not end those of autovacuum."""
        for name in self._snapshots():
            self._drop(name)
        seen = self._bench.watch_shell(
            f"'{program}' --url '{self._uri(self._source.database, True)}' snapshot big"
        )
        self._prove(self._snapshots()[0])
        return Copied(seen)

    def dslr_restore(self, program: Path) -> Copied:
        """A database replaced by the snapshot, which the restore itself drops."""
        if not self._snapshots():
            self.dslr_snapshot(program)
        self._drop("peer")
        self._execute("CREATE DATABASE peer")
        seen = self._bench.watch_shell(f"'{program}' --url '{self._uri('peer', True)}' restore big")
        self._prove("peer")
        return Copied(seen)

    def clear(self) -> None:
        """Drop what the others have made."""
        for name in ("peer", *self._snapshots()):
            self._drop(name)

    @property
    def _createdb(self) -> str:
        return f"createdb --maintenance-db='{self._uri('postgres')}' peer"

    def _uri(self, database: str, superuser: bool = False) -> str:
        return _uri(self._server.params(database, superuser=superuser))

    def _by_shell(self, command: str) -> Copied:
        self._drop("peer")
        seen = self._bench.watch_shell(command)
        self._prove("peer")
        return Copied(seen)

    def _prove(self, database: str) -> None:
        found = _contents(self._server.params(database, superuser=True))
        if found != self._expected:
            different = sorted(dict(found.items() ^ self._expected.items()))[:3]
            raise SystemExit(f"{database} differs from its source in {', '.join(different)}.")

    def _execute(self, statement: str) -> None:
        with session(self._server.params("postgres", superuser=True)) as connection:
            execute(connection, statement)

    def _drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _snapshots(self) -> list[str]:
        with session(self._server.params("postgres", superuser=True)) as connection:
            query = "SELECT datname FROM pg_database WHERE datname LIKE 'dslr%%'"
            return [name for (name,) in fetch_all(connection, query)]


def _uri(params: ConnectionParams) -> str:
    it = params
    return f"postgresql://{it.user}:{it.password}@{it.host}:{it.port}/{it.database}"


def _contents(params: ConnectionParams) -> dict[str, int]:
    """Rows of every table; tables, indexes, constraints and the like by their kind."""
    with session(params) as connection:
        found = count_rows(connection, do_not_poll)
        kinds = f"""
            SELECT 'kind ' || relkind::text, count(*)
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE {USER_SCHEMA} GROUP BY 1
             UNION ALL
            SELECT 'constraint ' || contype::text, count(*)
              FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
             WHERE {USER_SCHEMA} AND convalidated GROUP BY 1"""
        return found | dict(fetch_all(connection, kinds))


# --- where they are ------------------------------------------------------------------------------


@contextmanager
def second_server(
    bench: Bench, settings: Mapping[str, str] | None = None
) -> Iterator[EmbeddedServer]:
    """Another server, where ``dev`` is while this lasts."""
    server = EmbeddedServer(bench.home / "second", settings=settings)
    try:
        server.start(("dev",))
        with pointed(bench, DEV_DATABASE_URL=_uri(server.params("dev"))):
            yield server
    finally:
        server.stop()
        shutil.rmtree(server.home)


@contextmanager
def pointed(bench: Bench, **variables: str) -> Iterator[None]:
    """Further variables for our commands."""
    bench.environment.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del bench.environment[name]


def peers(copies: Copies, tables: int = 0) -> dict[str, Callable[[], Copied]]:
    """pg_dump|psql, and pgcopydb where it is installed.

    Not with very many tables: a process of it keeps 1.2 MB for each, and there are several. With
    10,000 the kernel ended it, and might as well have ended somebody else's program.
    """
    found = {"pg_dump|psql": copies.pipe, "pgcopydb": copies.pgcopydb}
    if not shutil.which("pgcopydb"):
        print("pgcopydb is not installed (apt-get install pgcopydb): left out")
        del found["pgcopydb"]
    elif tables > MOST_FOR_PGCOPYDB:
        del found["pgcopydb"]
    return found


def dslr(bench: Bench) -> Path | None:
    """DSLR in an environment of its own, or None where it cannot be had."""
    home = bench.home / "dslr"
    pip = home / "bin" / "pip"
    try:
        for command in ([sys.executable, "-m", "venv", home], [pip, "install", "-q", DSLR]):
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"DSLR could not be installed: left out ({error})")
        return None
    return home / "bin" / "dslr"


# --- figures -------------------------------------------------------------------------------------

Runs = Mapping[str, Sequence[Copied]]


def seconds(runs: Sequence[Copied]) -> float:
    return median([run.watched.seconds for run in runs])


def beside(title: str, runs: Runs, bars: Mapping[str, float], ours: str = "ours") -> list[Row]:
    """Our time beside that of every other contender."""
    how = "/".join(sorted({run.report["result"]["strategy"] for run in runs[ours]}))
    return [
        show(Row(f"{title}, by {how} : {name}", seconds(runs[ours]), seconds(them), "s",
                 bars.get(name)))
        for name, them in runs.items() if not them[0].report
    ]  # fmt: skip


def needs(title: str, runs: Runs, ours: str = "ours") -> list[Row]:
    """Memory and temporary disk, beside pgcopydb's where it ran."""
    memory, disk = (
        {
            name: max(getattr(run.watched, what) for run in them) / MEBI
            for name, them in runs.items()
        }
        for what in ("largest", "temporary")
    )
    return [
        show(Row(f"{title}, memory of its largest process", memory[ours], memory.get("pgcopydb"),
                 "MB", MEMORY_BAR_MB, absolute=True)),
        show(Row(f"{title}, temporary disk", disk[ours], disk.get("pgcopydb"), "MB", 0,
                 absolute=True)),
    ]  # fmt: skip


# --- the parts -----------------------------------------------------------------------------------


def bench_same(bench: Bench) -> list[Row]:
    """`big` on one server."""
    copies = Copies(bench, bench.server.params("test"), bench.server)
    contenders = {
        "ours": copies.ours,
        "clients": copies.ours_with_clients,
        "start": lambda: Copied(bench.watch_ours("copy_db", "--help")),
        "CREATE DATABASE, FILE_COPY": lambda: copies.template("copy"),
        "CREATE DATABASE, FILE_COPY, clone": lambda: copies.template("clone"),
        **peers(copies),
    }
    if program := dslr(bench):
        contenders["DSLR snapshot"] = lambda: copies.dslr_snapshot(program)
        contenders["DSLR restore"] = lambda: copies.dslr_restore(program)
    copies.ours()  # so that there is something to replace
    runs = bench.interleave(contenders, before=copies.settle)
    copies.clear()
    start = runs.pop("start")
    bars = {"pg_dump|psql": 0.12, "CREATE DATABASE, FILE_COPY": 1.3,
            "CREATE DATABASE, FILE_COPY, clone": 1.3}  # fmt: skip
    within = median([run.report["operation"]["seconds"] for run in runs["ours"]])
    outage = {
        name: median([run.report["result"]["outage_ms"] for run in runs[name]])
        for name in ("ours", "clients")
    }
    clone = seconds(runs["CREATE DATABASE, FILE_COPY, clone"])
    title = "copy_db, one server"
    return [
        *beside(title, runs, bars),
        show(Row(f"{title}, the operation alone : CREATE DATABASE, FILE_COPY, clone",
                 within, clone, "s", None)),
        show(Row("copy_db --help: start of Python and Django", seconds(start), None, "s", None)),
        show(Row(f"{title}, its own outage", outage["ours"], None, "ms", None)),
        show(Row(f"{title}, its own outage with {CLIENTS} clients", outage["clients"], None, "ms",
                 100)),
        show(Row(f"{title}, longest wait of a reader with {CLIENTS} clients",
                 median([run.wait for run in runs["clients"]]), None, "s", None)),
        *needs(title, runs),
    ]  # fmt: skip


def bench_two(bench: Bench) -> list[Row]:
    """`big` from one server to another."""
    with second_server(bench) as server:
        copies = Copies(bench, bench.server.params("test"), server)
        contenders = {"ours": lambda: copies.ours("--strategy", "stream"), **peers(copies)}
        runs = bench.interleave(contenders, before=copies.settle)
    title = "copy_db, two servers"
    watched = [run.watched for run in runs["ours"]]
    return [
        *beside(title, runs, {"pgcopydb": 0.85}),
        *needs(title, runs),
        *memory_by_process(title, watched),
    ]


def bench_masks(bench: Bench) -> list[Row]:
    """`big` out of a protected environment to another server, masked and as it is."""
    with pointed(bench, DBOPS_ALLOW_COPY_TO_PROD="true"):
        bench.manage("copy_db", "test", "prod", "--noinput", "--confirm", "prod", "--json")
    rules = bench.home / "masking.toml"
    rules.write_text(MASKING)
    looks = "SELECT name, born, phone, history FROM clinic.patients WHERE id = 7"
    with second_server(bench) as server, pointed(bench, DBOPS_MASKING_FILE=str(rules)):
        copies = Copies(bench, bench.server.params("prod"), server)

        def masked() -> Copied:
            copied = copies.ours(source="prod")
            with session(server.params("dev")) as connection:
                arrived = fetch_all(connection, looks)[0]
            before = bench.row(looks, "prod") or ()
            if any(one == other for one, other in zip(arrived, before, strict=True)):
                raise SystemExit(f"{before} was not masked: {arrived}.")
            return copied

        contenders = {
            "ours": masked,
            "unmasked": lambda: copies.ours("--no-mask", "--strategy", "stream", source="prod"),
        }
        runs = bench.interleave(contenders, before=copies.settle)
    bench.sql("DROP DATABASE prod")
    bench.sql("CREATE DATABASE prod")
    title = "copy_db, two servers, masked"
    columns = runs["ours"][0].report["result"]["masked_columns"]
    return [
        show(Row(f"{title} ({columns} columns) : without masks", seconds(runs["ours"]),
                 seconds(runs["unmasked"]), "s", 1.15)),
        *needs(title, runs),
    ]  # fmt: skip


def bench_small(bench: Bench) -> list[Row]:
    """200 tables, on one server and between two."""
    tables = ";".join(
        f"CREATE TABLE small_{n} AS SELECT g AS id, md5(g::text) AS a, repeat('x', 60) AS b "
        f"FROM generate_series(1, 1500) g; ALTER TABLE small_{n} ADD PRIMARY KEY (id)"
        for n in range(200)
    )
    bench.shell("createdb small")
    bench.sql(f"SET search_path = public; {tables}", "small")
    return _bench_schema(bench, "small", 200, bench.rounds, {"pg_dump|psql": 1.15})


def bench_catalogue(bench: Bench) -> list[Row]:
    """10,000 tables, on one server and between two."""
    bench.server.stop()
    bench.server = EmbeddedServer(bench.home / "postgres", settings=LOCKS)
    bench.server.start()
    bench.shell("createdb catalogue")
    for first in range(0, TABLES, 1000):
        bench.sql(
            f"""DO $$ BEGIN FOR n IN {first}..{first + 999} LOOP EXECUTE format(
                'CREATE TABLE public.t_%s (id int PRIMARY KEY, name text NOT NULL, at timestamptz);
                 INSERT INTO public.t_%s SELECT g, md5(g::text), now() FROM generate_series(1, 5) g;
                 CREATE INDEX ON public.t_%s (name)', n, n, n); END LOOP; END $$""",
            "catalogue",
        )
    return _bench_schema(bench, "catalogue", TABLES, 1, {}, LOCKS)


def _bench_schema(
    bench: Bench,
    database: str,
    tables: int,
    rounds: int,
    bars: Mapping[str, float],
    settings: Mapping[str, str] | None = None,
) -> list[Row]:
    """A database that is large by its number of tables, as the environment ``test``."""
    rows: list[Row] = []

    def measure(copies: Copies, title: str) -> None:
        contenders = {"ours": copies.ours, **peers(copies, tables)}
        runs = bench.interleave(contenders, before=copies.settle, rounds=rounds)
        copies.clear()
        rows.extend([*beside(title, runs, bars), *needs(title, runs)])

    with pointed(bench, TEST_DATABASE_URL=bench.url(database)):
        bench.manage("init_db", "--env", "test", "--adopt", "--json")
        source = bench.server.params(database)
        measure(Copies(bench, source, bench.server), f"copy_db, {tables} tables, one server")
        with second_server(bench, settings) as server:
            measure(Copies(bench, source, server), f"copy_db, {tables} tables, two servers")
    bench.sql(f"DROP DATABASE {database}")
    return rows


PARTS = {
    "same": bench_same, "two": bench_two, "masks": bench_masks, "small": bench_small,
    "catalogue": bench_catalogue,
}  # fmt: skip


def main(description: str) -> None:
    parser = options_of(description)
    parser.add_argument("--only", metavar="PART,PART", help=f"of {', '.join(PARTS)}; all")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"There is no part {', '.join(sorted(unknown))}.")
    name = "-".join(["copy", *(wanted if options.only else [])])
    with started(options.rounds) as bench:
        bench.fill(options.size)
        print(f"big: {bench.value('SELECT pg_size_pretty(pg_database_size(current_database()))')}")
        print_heading()
        rows: list[Row] = []
        for part in [part for part in PARTS if part in wanted]:
            rows += PARTS[part](bench)
            write_results(bench, name, options.size, METHOD, rows)  # what is done, is done
