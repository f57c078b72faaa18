"""Measure ourselves beside our peers: pairs, interleaved, in one run; medians and their ratio.

    python benchmarks/run.py [--scale 40] [--rounds 3] [NAME ...]

``--scale`` is pgbench's (40 is about 0.6 GB with its indexes). Everything happens on an embedded
server of its own, with fsync on, in a temporary directory. Times are those of whole commands, our
start-up of Python and Django included; a bar that is missed is printed as missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import psycopg2  # noqa: E402

from dbops.postgres.connection import execute, fetch_value, session  # noqa: E402
from dbops.postgres.databases import drop_database, scratch_name  # noqa: E402
from dbops.postgres.embedded import EmbeddedServer  # noqa: E402
from dbops.postgres.swap import swap_databases  # noqa: E402
from dbops.postgres.tools import wheel_directories  # noqa: E402

Contender = Callable[[], None]
BIN = wheel_directories()[0]


class Bench:
    """A server, its databases, and the two ways to do one thing."""

    def __init__(self, home: Path, rounds: int) -> None:
        self.home, self.rounds = home, rounds
        self.server = EmbeddedServer(home / "postgres")
        self.server.start(("dev", "test", "prod"))
        self.control = self.server.params("postgres")
        kept = {key: value for key, value in os.environ.items() if "DATABASE_URL" not in key}
        self.environment = kept | {"SKINSPIRE_HOME": str(home), "SKINSPIRE_ENV": "dev"}
        self.tools = kept | self.control.libpq_environment() | {
            "PGPASSWORD": self.control.password, "PATH": f"{BIN}:{os.environ['PATH']}",
            "BENCH_STORE": str(home / "plain"), "BENCH_URL": self.url("test"),
            "PYTHONPATH": f"{ROOT}/benchmarks", "DJANGO_SETTINGS_MODULE": "plain_settings",
        }  # fmt: skip
        self.manage("migrate", "--verbosity=0")
        for name in ("dev", "test"):
            self.manage("init_db", "--env", name, "--json")

    def url(self, database: str) -> str:
        it = self.control
        return f"postgresql://{it.user}:{it.password}@{it.host}:{it.port}/{database}"

    def manage(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment,
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    def shell(self, command: str) -> None:
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], env=self.tools, cwd=self.home,
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def sql(self, statement: str, database: str = "postgres") -> None:
        with session(self.control.with_database(database)) as connection:
            execute(connection, statement)

    def fill(self, scale: int) -> None:
        self.shell(f"pgbench --initialize --quiet --scale={scale} --foreign-keys test")

    def compare(self, title: str, bar: float, ours: Contender, peer: Contender) -> None:
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(self.rounds):
            for name, contender in (("ours", ours), ("peer", peer)):
                began = time.monotonic()
                contender()
                times[name].append(time.monotonic() - began)
        report(title, bar, statistics.median(times["ours"]), statistics.median(times["peer"]), "s")


def report(title: str, bar: float, ours: float, peer: float, unit: str) -> None:
    ratio = ours / peer
    verdict = "ok" if ratio <= bar else "MISSED"
    print(f"{title:52} {ours:9.3f} {peer:9.3f} {unit:3} ratio {ratio:5.2f}  bar {bar:4.2f}  "
          f"{verdict}", flush=True)  # fmt: skip


def bench_copy(bench: Bench) -> None:
    def by_pipe() -> None:
        bench.shell("dropdb --if-exists piped; createdb piped; pg_dump test | psql -qX1 piped")

    def bare() -> None:
        bench.shell(
            "psql -qX postgres -c 'DROP DATABASE IF EXISTS bare' -c 'SET file_copy_method = clone' "
            "-c 'CREATE DATABASE bare TEMPLATE test STRATEGY file_copy'"
        )

    def ours() -> None:
        bench.manage("copy_db", "test", "dev", "--noinput", "--json")

    bench.compare("copy_db, one server : pg_dump|psql", 0.12, ours, by_pipe)
    bench.compare("copy_db, one server : bare CREATE DATABASE TEMPLATE", 1.3, ours, bare)
    for name in ("piped", "bare"):
        bench.sql(f"DROP DATABASE IF EXISTS {name}")


def bench_small(bench: Bench) -> None:
    tables = ";".join(
        f"CREATE TABLE small_{n} AS SELECT g AS id, md5(g::text) AS a, repeat('x', 60) AS b "
        f"FROM generate_series(1, 1500) g; ALTER TABLE small_{n} ADD PRIMARY KEY (id)"
        for n in range(200)
    )
    bench.shell("createdb small")
    bench.sql(f"SET search_path = public; {tables}", "small")
    bench.environment["TEST_DATABASE_URL"] = bench.url("small")
    bench.manage("init_db", "--env", "test", "--adopt", "--json")

    def ours() -> None:
        bench.manage("copy_db", "test", "dev", "--noinput", "--json")

    def by_pipe() -> None:
        bench.shell("dropdb --if-exists piped; createdb piped; pg_dump small | psql -qX1 piped")

    bench.compare("copy_db, 200 small tables : pg_dump|psql -1", 1.15, ours, by_pipe)
    del bench.environment["TEST_DATABASE_URL"]
    bench.sql("DROP DATABASE piped")


def bench_backup(bench: Bench) -> None:
    sizes: dict[str, int] = {}

    def ours() -> None:
        answer = json.loads(bench.manage("dbbackup", "-d", "test", "--json"))
        sizes["ours"] = answer["result"]["size"]

    def peer() -> None:
        shutil.rmtree(bench.home / "plain", ignore_errors=True)
        (bench.home / "plain").mkdir()
        bench.shell(f"{sys.executable} -m django dbbackup --noinput -o plain.dump")
        sizes["peer"] = (bench.home / "plain" / "plain.dump").stat().st_size

    bench.compare("dbbackup : django-dbbackup's, time", 0.45, ours, peer)
    mega = 1 << 20
    report("dbbackup : django-dbbackup's, size", 0.95, sizes["ours"] / mega, sizes["peer"] / mega,
           "MiB")  # fmt: skip


def bench_restore(bench: Bench) -> None:
    name = json.loads(bench.manage("dbbackup", "-d", "test", "--json"))["result"]["name"]
    (bench.home / "plain").mkdir(exist_ok=True)
    bench.shell(f"{sys.executable} -m django dbbackup --noinput -o plain.dump")
    outages: dict[str, list[float]] = {"ours": [], "peer": []}

    def ours() -> None:
        with Reader(bench) as reader:
            bench.manage("dbrestore", "-d", "test", "-i", name, "--noinput", "--json")
        outages["ours"].append(reader.longest)

    def peer() -> None:
        with Reader(bench) as reader:
            bench.shell(f"{sys.executable} -m django dbrestore --noinput -d default -i plain.dump")
        outages["peer"].append(reader.longest)

    bench.compare("dbrestore : django-dbbackup's, time", 0.80, ours, peer)
    report("dbrestore : django-dbbackup's, longest wait of a reader", 0.02,
           statistics.median(outages["ours"]), statistics.median(outages["peer"]), "s")  # fmt: skip


class Reader:
    """Polls one row of the target and remembers its longest wait, in seconds."""

    def __init__(self, bench: Bench) -> None:
        self._params = bench.control.with_database("test")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self.longest = 0.0

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        time.sleep(0.2)
        self._done.set()
        self._thread.join()

    def _poll(self) -> None:
        last = time.monotonic()
        connection = None
        while not self._done.is_set():
            try:
                connection = connection or psycopg2.connect(**self._params.libpq_keywords())
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT abalance FROM public.pgbench_accounts WHERE aid = 1")
                    cursor.fetchone()
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
            except psycopg2.Error:
                connection = None
            time.sleep(0.005)


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
    report("swap with 80 clients : 100 ms", 1.0, statistics.median(outages), 100.0, "ms")


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
           statistics.median(times["ours"]), statistics.median(times["peer"]), "s")  # fmt: skip


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
               statistics.median(times["ours"]), statistics.median(times["peer"]), "s")  # fmt: skip
    bench.sql("DROP DATABASE inserts")


_BARE = """DO $$ BEGIN FOR n IN 1..1000 LOOP
    EXECUTE format('CREATE TRIGGER a BEFORE INSERT OR UPDATE ON public.t_%s
        FOR EACH ROW EXECUTE FUNCTION skinspire.set_timestamps()', n);
    EXECUTE format('CREATE TRIGGER b BEFORE INSERT OR UPDATE ON public.t_%s
        FOR EACH ROW EXECUTE FUNCTION skinspire.set_actors('''', '''')', n);
END LOOP; END $$"""
BENCHES = {
    "copy": bench_copy, "small": bench_small, "backup": bench_backup,
    "restore": bench_restore, "swap": bench_swap, "triggers": bench_triggers,
    "insert": bench_insert,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="skinspire-bench-"))
    home.chmod(0o711)
    try:
        bench = Bench(home, options.rounds)
        if {"copy", "backup", "restore"} & set(options.names or BENCHES):
            bench.fill(options.scale)
        print(f"{'ours : peer':52} {'ours':>9} {'peer':>9}")
        for name in options.names or BENCHES:
            BENCHES[name](bench)
    finally:
        EmbeddedServer(home / "postgres").stop()
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
