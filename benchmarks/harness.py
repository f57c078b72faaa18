"""What every benchmark needs: a server, the data set ``big``, processes watched while they run,
readers and clients of the target, and a page of results.

Ratios of medians of interleaved rounds are what counts: a lone time says as much about the machine
and its other tenants as about us.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import psycopg2  # noqa: E402

from dbops.postgres.connection import execute, fetch_row, session  # noqa: E402
from dbops.postgres.embedded import EmbeddedServer  # noqa: E402
from dbops.postgres.params import ConnectionParams  # noqa: E402
from dbops.postgres.tools import wheel_directories  # noqa: E402

BIN = wheel_directories()[0]
RESULTS = Path(__file__).parent / "results"
MEBI = 1 << 20
_LOOK_SECONDS = 0.02
T = TypeVar("T")


class Bench:
    """A server of its own, its databases, our installation and django-dbbackup's beside it."""

    def __init__(self, home: Path, rounds: int) -> None:
        self.home, self.rounds = home, rounds
        self.plain, self.temporary = home / "plain", home / "tmp"
        for directory in (self.plain, self.temporary):
            directory.mkdir()
        self.server = EmbeddedServer(home / "postgres")
        self.server.start(("dev", "test", "prod"))
        self.control = self.server.params("postgres")
        kept = {key: value for key, value in os.environ.items() if "DATABASE_URL" not in key}
        kept["TMPDIR"] = str(self.temporary)
        self.environment = kept | {"SKINSPIRE_HOME": str(home), "SKINSPIRE_ENV": "dev"}
        self.tools = kept | self.control.libpq_environment() | {
            "PGPASSWORD": self.control.password, "PATH": f"{BIN}:{os.environ['PATH']}",
            "BENCH_STORE": str(self.plain), "BENCH_URL": self.url("test"),
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

    def value(self, query: str, database: str = "test") -> Any:
        found = self.row(query, database)
        return found[0] if found else None

    def row(self, query: str, database: str = "test") -> tuple[Any, ...] | None:
        with session(self.control.with_database(database)) as connection:
            return fetch_row(connection, query)

    def fill(self, size: float) -> None:
        """The data set ``big``, ``size`` times 1 GB, in the database ``test``."""
        script = Path(__file__).with_name("big.sql")
        self.shell(f"pgbench --initialize --quiet --scale={max(1, round(40 * size))} test")
        self.shell(f"psql -qX -v patients={round(80_000 * size)} -f '{script}' test")

    def watch_ours(self, *arguments: str) -> Watched:
        """One of our commands, watched. What it prints is in the answer."""
        return watch(
            [sys.executable, "manage.py", *arguments], ROOT, self.environment,
            self.temporary, self.home / "backups",
        )  # fmt: skip

    def watch_peer(self, *arguments: str) -> Watched:
        """One of django-dbbackup's own, watched."""
        return watch(
            [sys.executable, "-m", "django", *arguments], self.home, self.tools,
            self.temporary, self.plain,
        )  # fmt: skip

    def watch_shell(self, command: str) -> Watched:
        """What others would type, watched."""
        return watch(
            ["bash", "-euo", "pipefail", "-c", command], self.home, self.tools,
            self.temporary, self.plain,
        )  # fmt: skip

    def settle(self, database: str = "test") -> None:
        """The same beginning for every contender: nothing left to write out or to vacuum that the
        one before has caused, and the database in the page cache."""
        with session(self.server.params(database, superuser=True)) as connection:
            execute(connection, "VACUUM ANALYZE")
            execute(connection, "CHECKPOINT")

    def interleave(
        self,
        contenders: Mapping[str, Callable[[], T]],
        *,
        before: Callable[[], None] | None = None,
        rounds: int | None = None,
    ) -> dict[str, list[T]]:
        """What each returned in each round; the order turns from round to round."""
        found: dict[str, list[T]] = {name: [] for name in contenders}
        for round_ in range(rounds or self.rounds):
            for name in list(contenders)[:: -1 if round_ % 2 else 1]:
                if before:
                    before()
                found[name].append(contenders[name]())
        return found


@contextmanager
def started(rounds: int) -> Iterator[Bench]:
    """A bench in a temporary directory; its server is stopped whatever happens."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    home = Path(tempfile.mkdtemp(prefix="skinspire-bench-"))
    home.chmod(0o711)
    try:
        yield Bench(home, rounds)
    finally:
        EmbeddedServer(home / "postgres").stop()
        shutil.rmtree(home)


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


# --- processes under observation -----------------------------------------------------------------


@dataclass
class Watched:
    """A command that ended well: how long it took and what it and its children needed."""

    seconds: float = 0.0
    stdout: str = ""
    memory: dict[str, int] = field(default_factory=dict)
    """{name of the program: peak resident bytes of the largest such process}."""
    temporary: int = 0
    """Bytes it held on disk at most, beyond what it left in the storage."""

    @property
    def largest(self) -> int:
        """Peak resident bytes of its largest process."""
        return max(self.memory.values())


def watch(
    argv: Sequence[str], cwd: Path, environment: Mapping[str, str], temporary: Path, storage: Path
) -> Watched:
    """Run a command to its end, looking at its process tree fifty times a second.

    Memory is VmHWM of /proc/<pid>/status, the kernel's own high-water mark of each process, so a
    look may miss only what a process gained in the last 20 ms of its life. Disk is what lies in
    ``temporary``, plus files without a name that the processes hold open, plus what ``storage``
    held beyond what it holds in the end.
    """
    seen = Watched()
    at_rest = _bytes_in(storage)
    peak_stored = 0
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        began = time.monotonic()
        process = subprocess.Popen(
            argv, cwd=cwd, env=dict(environment), stdout=output, stderr=errors,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        while process.poll() is None:
            began_look = time.monotonic()
            nameless: dict[int, int] = {}
            for pid in _tree(process.pid):
                with suppress(OSError):
                    _look_at(pid, seen.memory, nameless, {errors.fileno(), output.fileno()})
            held = _bytes_in(temporary) + sum(nameless.values())
            seen.temporary = max(seen.temporary, held)
            peak_stored = max(peak_stored, _bytes_in(storage))
            # Where there is much to look at, looking must not slow down what is looked at.
            looked = time.monotonic() - began_look
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(_LOOK_SECONDS, 10 * looked))
        seen.seconds = time.monotonic() - began
        output.seek(0)
        errors.seek(0)
        seen.stdout = output.read().decode()
        if process.returncode:
            raise SystemExit(f"{' '.join(argv)} failed: {errors.read().decode()[-2000:]}")
    seen.temporary += max(0, peak_stored - max(at_rest, _bytes_in(storage)))
    return seen


def _tree(pid: int) -> list[int]:
    """A process and its descendants, also those that lead a session of their own."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
    return found


def _look_at(pid: int, memory: dict[str, int], nameless: dict[int, int], ours: set[int]) -> None:
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    name, mark = status["Name"].strip(), status.get("VmHWM", "0 kB")
    memory[name] = max(memory.get(name, 0), int(mark.split()[0]) * 1024)
    own = {os.fstat(descriptor).st_ino for descriptor in ours}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(link).endswith(" (deleted)") and not os.readlink(link).startswith(
                ("/memfd:", "/dev/")
            ):
                facts = link.stat()
                if facts.st_ino not in own:
                    nameless[facts.st_ino] = facts.st_blocks * 512


def _bytes_in(directory: Path) -> int:
    total = 0
    for parent, _, names in os.walk(directory):  # which minds no directory that has gone meanwhile
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


# --- who uses the target meanwhile ---------------------------------------------------------------


class Reader:
    """Polls one row of the target every 5 ms and remembers its longest wait, in seconds."""

    def __init__(self, bench: Bench, database: str = "test") -> None:
        self._params = bench.control.with_database(database)
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
        if connection is not None:
            connection.close()


@contextmanager
def clients(params: ConnectionParams, count: int) -> Iterator[None]:
    """Sessions that have looked at the target once and stay connected."""
    connections = []
    try:
        for _ in range(count):
            connections.append(psycopg2.connect(**params.libpq_keywords()))
            connections[-1].autocommit = True
            with connections[-1].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM public.pgbench_branches")
        yield
    finally:
        for connection in connections:
            connection.close()


# --- results -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One line of results. Without a peer the bar is one for our own figure."""

    what: str
    ours: float
    peer: float | None
    unit: str
    bar: float | None
    absolute: bool = False
    """The bar is one for our own figure although there is a peer's beside it."""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.peer if self.peer else None

    @property
    def verdict(self) -> str:
        """``ok``, ``MISSED``, or "" where no bar was set."""
        if self.bar is None:
            return ""
        measured = self.ours if self.absolute or self.ratio is None else self.ratio
        return "ok" if measured <= self.bar else "MISSED"

    @property
    def cells(self) -> list[str]:
        def figure(value: float | None, unit: str = "") -> str:
            return "–" if value is None else f"{value:.{0 if value >= 1000 else 3}f}{unit}"

        absolute = self.absolute or self.ratio is None
        bar = "–" if self.bar is None else f"≤ {self.bar:g}{f' {self.unit}' if absolute else ''}"
        return [
            self.what, figure(self.ours, f" {self.unit}"), figure(self.peer, f" {self.unit}"),
            figure(self.ratio), bar, self.verdict or "–",
        ]  # fmt: skip


def show(row: Row) -> Row:
    what, *cells = row.cells
    print(f"{what:72}", *(f"{cell:>13}" for cell in cells), flush=True)
    return row


def report(title: str, bar: float, ours: float, peer: float, unit: str) -> Row:
    """Print a row whose bar is one for the ratio."""
    return show(Row(title, ours, peer, unit, bar))


HEADING = ["what : against what", "ours", "peer", "ratio", "bar", "verdict"]


def print_heading() -> None:
    print(f"{HEADING[0]:72}", *(f"{cell:>13}" for cell in HEADING[1:]))


def write_results(
    bench: Bench, what: str, size: float, method: str, rows: Sequence[Row], title: str = ""
) -> None:
    """``benchmarks/results/<what>.md``; of another size than 1 GB, ``<what>-<size>gb.md``."""
    name = what if size == 1 else f"{what}-{size:g}gb"
    table = [HEADING, ["---"] * len(HEADING), *(row.cells for row in rows)]
    gibi = bench.value("SELECT pg_database_size('test')") / (1 << 30)
    lines = [
        f"# {title or f'{what.capitalize()}, `big` of {gibi:.2f} GB'}",
        "",
        *(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |" for cells in table),
        "",
        f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. Command: `python benchmarks/"
        f"{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`",
        f"- Machine: {_processor()}, {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / (1 << 30):.0f} GB memory, {_file_system(bench.home)}; "
        f"load average at the end {os.getloadavg()[1]:.1f} over five minutes.",
        f"- Versions: PostgreSQL {bench.value('SHOW server_version')}, Python "
        f"{platform.python_version()}, "
        + ", ".join(f"{it} {version(it)}" for it in ("Django", "django-dbbackup", "zstandard"))
        + ".",
        f"- Method: {bench.rounds} rounds, contenders in turn, order reversed every other round; "
        f"medians of the rounds. {method}",
        "- A bar that is missed says MISSED; – means that no bar was set or nothing compares.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _file_system(path: Path) -> str:
    longest = max(
        (part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)),
        key=lambda part: len(part.mountpoint),
    )
    return str(longest.fstype)


def measure_big(
    what: str, measure: Callable[[Bench], Sequence[Row]], method: str, description: str
) -> None:
    """The whole of a benchmark of one command on `big`, from its options to its results."""
    options = options_of(description).parse_args()
    with started(options.rounds) as bench:
        bench.fill(options.size)
        print(f"big: {bench.value('SELECT pg_size_pretty(pg_database_size(current_database()))')}")
        write_results(bench, what, options.size, method, measure(bench))


def options_of(description: str) -> argparse.ArgumentParser:
    """The options all benchmarks share."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--size", type=float, default=1, metavar="GB", help="0.25, 1 or 4; 1")
    parser.add_argument("--rounds", type=int, default=3, help="at least 3 for a median; 3")
    return parser
