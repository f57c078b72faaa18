"""What the tests of faults share: something to lose, ways to do harm, and the outcome that every
operation which fails must have."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from dbops.postgres.connection import Connection, execute, fetch_value, session
from dbops.postgres.databases import drop_database
from dbops.postgres.embedded import EmbeddedServer
from dbops.postgres.locks import _key
from tests import servers
from tests.conftest import skip_or_fail
from tests.installation import Installation
from tests.servers import Server

MEGABYTE = 1 << 20
# Everything a statement could have changed: a table that was rewritten has another file.
_CATALOGUE = """
SELECT md5(string_agg(line, E'\n' ORDER BY line)) FROM (
    SELECT concat_ws('|', oid, relname, relnamespace, relowner, relfilenode, relacl, relchecks)
      FROM pg_class WHERE oid >= 16384
    UNION ALL SELECT concat_ws('|', attrelid, attnum, attname, atttypid, attnotnull, attacl)
      FROM pg_attribute WHERE attrelid >= 16384
    UNION ALL SELECT concat_ws('|', oid, conname, convalidated) FROM pg_constraint
    UNION ALL SELECT concat_ws('|', oid, tgname, tgenabled) FROM pg_trigger
    UNION ALL SELECT concat_ws('|', oid, proname, md5(prosrc), proacl) FROM pg_proc
    UNION ALL SELECT concat_ws('|', oid, nspname, nspowner, nspacl) FROM pg_namespace
    UNION ALL SELECT concat_ws('|', oid, datdba, datacl, datconnlimit) FROM pg_database
     WHERE datname = current_database()) it (line)"""


def prepare(installation: Installation) -> Installation:
    """test holds two tables; its one backup is ``installation.variables['BACKUP']``.

    Made by our commands once a server, and copied from then on.
    """
    server, home = installation.server, installation.home
    kept = server.embedded.home / f"prepared-{os.getpid()}"
    template = f"prepared_{os.getpid()}"
    if not kept.exists():
        _prepare(installation)
        with session(server.params) as control:
            _copy_database(control, template, installation.databases["test"].database)
        shutil.copytree(home, kept)
    else:
        shutil.copytree(kept, home, dirs_exist_ok=True)
        with session(server.params) as control:
            name = installation.databases["test"].database
            drop_database(control, name)
            _copy_database(control, name, template)
    (backup,) = (home / "backups").glob("*.dump.zst")
    installation.variables["BACKUP"] = backup.name
    return installation


def _copy_database(control: Connection, name: str, template: str) -> None:
    execute(control, f"CREATE DATABASE {name} TEMPLATE {template}")


def _prepare(installation: Installation) -> None:
    installation.result("init_db", "--env", "test")
    installation.sql(
        "test",
        """CREATE TABLE public.patients AS
           SELECT g AS id, md5(g::text) AS name FROM generate_series(1, 60000) g;
           CREATE TABLE public.notes AS SELECT 1 AS id, 'ä' AS note""",
    )
    installation.result("dbbackup", "-d", "test")


def make_noise(installation: Installation, megabytes: int) -> None:
    """A table of as many rows of a megabyte each, which no compression makes smaller."""
    with session(installation.databases["test"]) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE public.noise (id int, x bytea)")
        cursor.execute("ALTER TABLE public.noise ALTER x SET STORAGE EXTERNAL")
        for number in range(megabytes):
            row = [number, psycopg2.Binary(os.urandom(MEGABYTE))]
            cursor.execute("INSERT INTO public.noise VALUES (%s, %s)", row)


def add_slow_index(installation: Installation, rows: int) -> None:
    """To test, an index that takes 20 ms a row to build."""
    installation.sql(
        "test",
        f"""CREATE FUNCTION public.slow(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
           AS $$ BEGIN PERFORM pg_catalog.pg_sleep(0.02); RETURN $1; END $$;
           CREATE TABLE public.slowly AS SELECT g AS id FROM generate_series(1, {rows}) g;
           CREATE INDEX slow_index ON public.slowly (public.slow(id))""",
    )


def make_loading_slow(installation: Installation) -> None:
    """Hold pg_restore for long enough to be hit: an index whose expression takes its time."""
    add_slow_index(installation, 150)
    installation.variables["BACKUP"] = installation.result("dbbackup", "-d", "test")["name"]


# What must be so afterwards


def state(installation: Installation, environment: str = "test") -> dict[str, str]:
    """Rows, sequences and catalogue of an environment's database: what "unchanged" means."""
    catalogue = str(installation.sql(environment, _CATALOGUE))
    return {**installation.hashes(environment), "the catalogue": catalogue}


def assert_unharmed(installation: Installation, before: dict[str, str]) -> None:
    """The same target; no scratch database, partial file, lock or child process is left."""
    assert state(installation) == before
    assert_nothing_left(installation)


def assert_nothing_left(installation: Installation) -> None:
    """No scratch database, partial or unsealed file, lock or child process."""
    assert [name for name in installation.scratch() if "incoming" in name] == []
    assert unsealed(installation) == []
    assert tools_left(installation) == []
    for server in {installation.server, *installation.moved.values()}:
        assert locks_held(installation, server) == 0


def locks_held(installation: Installation, server: Server) -> int:
    """How many operations hold databases of this installation."""
    keys = [_key(params.database) for params in installation.databases.values()]
    with session(server.superuser) as control:
        return int(
            fetch_value(
                control,
                """SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                    WHERE l.locktype = 'advisory'
                      AND a.application_name LIKE 'skinspire operation %%' AND l.objid::bigint IN (
                          SELECT key & 4294967295 FROM unnest(%s::bigint[]) key)""",
                [keys],
            )
        )


def assert_failed(
    installation: Installation, before: dict[str, str], words: str, status: str = "failed"
) -> None:
    """STD of the fault list: unharmed, and both the row and the journal's file say why."""
    assert_unharmed(installation, before)
    assert_recorded(installation, words, status)


def assert_recorded(installation: Installation, words: str, status: str = "failed") -> None:
    """The last operation's row, and what the journal's file says of it."""
    found = _control(
        installation,
        "SELECT id, status, error FROM dbops_operation ORDER BY created_at DESC LIMIT 1",
    )[0]
    assert (found[1], words in found[2]) == (status, True), found
    lines = (installation.home / "journal.jsonl").read_text().splitlines()
    entries = [it for it in map(json.loads, lines) if it["operation"] == found[0]]
    assert entries[-1]["event"] == status
    assert status == "interrupted" or words in entries[-1]["details"]["error"]


def _control(installation: Installation, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(installation.home / "control.sqlite3", timeout=30)) as control:
        return control.execute(query).fetchall()


def catalogued(installation: Installation) -> list[str]:
    """The backups that the catalogue claims."""
    return [name for (name,) in _control(installation, "SELECT name FROM dbops_backup ORDER BY 1")]


def unsealed(installation: Installation) -> list[str]:
    """Files in the directory of backups that are no backup and belong to none."""
    directory = installation.home / "backups"
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    archives = {name for name in names if not name.endswith(".metadata")}
    return sorted(archives ^ {name.removesuffix(".metadata") for name in names - archives})


def partial_size(installation: Installation) -> int:
    """Bytes of the backup that is being written."""
    with suppress(FileNotFoundError):
        return sum(it.stat().st_size for it in (installation.home / "backups").glob(".*.partial"))
    return 0


def tools_of(pid: int, name: str = "pg_") -> list[int]:
    """Live pg_dump and pg_restore processes our command started (each leads its own group)."""
    found = []
    for process in psutil.process_iter(["pid", "ppid", "name", "status"]):
        info = process.info
        if info["name"].startswith(name) and info["status"] != "zombie" and info["ppid"] == pid:
            found.append(info["pid"])
    return found


def tools_left(installation: Installation) -> list[int]:
    """Those that work for this installation's databases, whoever their parent is by now."""
    tag = installation.databases["test"].database.partition("_")[2].encode()
    found = []
    for process in psutil.process_iter(["pid", "name"]):
        if process.info["name"] in ("pg_dump", "pg_restore", "psql"):
            with suppress(OSError):
                files = [Path(f"/proc/{process.pid}/{it}") for it in ("cmdline", "environ")]
                if any(tag in file.read_bytes() for file in files):
                    found.append(process.pid)
    return found


# How to hold it, and to end it


def wait_for(condition: Callable[[], object], seconds: float = 30, pause: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(pause)


def wait_for_step(process: subprocess.Popen[str], step: str) -> None:
    """Read what a command says until it has begun ``step``."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if line.strip() == step:
            return
        said.append(line)
    raise AssertionError(f"{step} was never begun: {said}")


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a command and what else it says on standard error: never a traceback, and
    one line with the cause where it failed by itself."""
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert err.count("Error: ") == (process.returncode > 0), err
    return process.returncode, err


def kill(process: subprocess.Popen[str], installation: Installation) -> None:
    """kill -9 of our command alone, and the time its tools and sessions need to notice."""
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    tag = installation.databases["test"].database.partition("_")[2]
    for server in {installation.server, *installation.moved.values()}:
        with session(server.superuser) as control:
            wait_for(
                lambda control=control: (  # type: ignore[misc]
                    not fetch_value(
                        control,
                        """SELECT count(*) FROM pg_stat_activity
                        WHERE pid <> pg_backend_pid() AND (datname ~ %s OR query ~ %s)""",
                        [f"_{tag}(__|$)", tag],
                    )
                )
            )
    wait_for(lambda: not tools_left(installation))


@contextmanager
def sequence_held(installation: Installation, name: str) -> Iterator[None]:
    """While nobody can read a sequence of test's, which is locked after all tables."""
    with session(installation.databases["test"]) as connection:
        execute(connection, "BEGIN")
        execute(connection, f"DROP SEQUENCE {name}")
        yield
        execute(connection, "ROLLBACK")


@contextmanager
def locked(installation: Installation) -> Iterator[None]:
    """Hold pg_dump: it waits for a table somebody has locked."""
    with session(installation.databases["test"]) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE public.notes IN ACCESS EXCLUSIVE MODE")
        yield
        cursor.execute("ROLLBACK")


# Disks


def file_size_limit(megabytes: int) -> dict[str, Any]:
    """``ulimit -f`` for a command: options of Installation.run."""
    limits = (megabytes * MEGABYTE, megabytes * MEGABYTE)
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)}


def mounted(directory: Path, *arguments: str) -> bool:
    """Mount something there, if that is allowed here."""
    command = ["mount", *arguments, str(directory)]
    return os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0


@contextmanager
def unmounting(directory: Path) -> Iterator[None]:
    """Take away at the end what was mounted there."""
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """A directory nobody may write to: not even root, whom permissions do not stop."""
    if os.geteuid() != 0:
        mode = directory.stat().st_mode
        directory.chmod(0o500)
        try:
            yield
        finally:
            directory.chmod(mode)
    elif mounted(directory, "--bind", str(directory)):
        with unmounting(directory):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)
            yield
    elif subprocess.run(["chattr", "+i", str(directory)], check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["chattr", "-i", str(directory)], check=True)
    else:
        skip_or_fail("neither mount nor chattr is allowed here")


# Servers


@contextmanager
def own_server(**settings: str) -> Iterator[Server]:
    """A server that can be stopped, killed and filled, since nobody else is on it."""
    shared = servers.server(18)
    assert shared is not None
    home = servers.test_root() / f"own-{os.getpid()}-{time.monotonic_ns()}"
    every = {**servers.FAST, **settings}
    embedded = EmbeddedServer(home, binaries=shared.embedded._bin(), settings=every)
    embedded.start()
    try:
        yield Server(18, embedded)
    finally:
        embedded.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def small_disk(server: Server) -> Iterator[Callable[[int], None]]:
    """Databases on a disk of their own, and a function that leaves so many bytes free on it; where
    nothing can be mounted, one that limits the size of the server's files."""
    base, aside = server.embedded.data / "base", server.embedded.data / "base.aside"
    server.embedded.stop()
    base.rename(aside)
    base.mkdir()
    facts = aside.stat()
    options = f"size=1g,mode=0700,uid={facts.st_uid},gid={facts.st_gid}"
    if not mounted(base, "-t", "tmpfs", "-o", options, "none"):
        base.rmdir()
        aside.rename(base)
        server.embedded.start()
        yield lambda free: _restart_with_limit(server, free)
        return

    def leave(free: int) -> None:
        disk = os.statvfs(base)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + free}", str(base)], check=True)

    with unmounting(base):
        subprocess.run(["cp", "-a", f"{aside}/.", str(base)], check=True)
        server.embedded.start()
        try:
            yield leave
        finally:
            server.embedded.stop()


def _restart_with_limit(server: Server, size: int) -> None:
    """Every process of the server inherits ours."""
    server.embedded.stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        server.embedded.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def postmaster(server: Server) -> psutil.Process:
    """The server's first process."""
    lines = (server.embedded.data / "postmaster.pid").read_text().splitlines()
    return psutil.Process(int(lines[0]))


def kill_postmaster(server: Server) -> None:
    """kill -9 of the server's first process; the others end when they notice, or are helped."""
    first = postmaster(server)
    others = first.children(recursive=True)
    first.kill()
    _, alive = psutil.wait_procs([first, *others], timeout=3)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive)


def stop_immediately(server: Server) -> None:
    """What ``pg_ctl stop -m immediate`` does: every process of the server ends at once."""
    first = postmaster(server)
    first.send_signal(signal.SIGQUIT)
    psutil.wait_procs([first])


def checkpoint(server: Server) -> None:
    """Before a crash: sequences go on from where the log says, which is some numbers ahead."""
    with session(server.superuser) as control:
        execute(control, "CHECKPOINT")
