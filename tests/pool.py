"""A real PgBouncer in transaction pooling, with one connection to the server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2

from dbops.postgres.params import ConnectionParams
from tests import servers

_CONFIGURATION = """
[databases]
{database} = host={host} port={port} user={user} password={password} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
max_client_conn = 50
ignore_startup_parameters = extra_float_digits
logfile = {log}
"""
_START_SECONDS = 20.0


@dataclass(frozen=True)
class PgBouncer:
    """One that runs."""

    params: ConnectionParams
    """How to reach the database through it."""

    @classmethod
    @contextmanager
    def running(cls, params: ConnectionParams) -> Iterator[PgBouncer]:
        """In front of one database; skips where PgBouncer is not installed."""
        from tests.conftest import skip_or_fail

        binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if binary is None:
            skip_or_fail("pgbouncer is not installed")
        assert binary is not None
        home = Path(tempfile.mkdtemp(dir=servers.test_root()))
        listen = _free_port()
        process = _start(binary, home, params, listen)
        reached = replace(params, host="127.0.0.1", port=listen)
        try:
            _wait(process, reached, home)
            yield cls(reached)
        finally:
            process.terminate()
            process.wait(timeout=10)
            shutil.rmtree(home, ignore_errors=True)


def _start(
    binary: str, home: Path, params: ConnectionParams, listen: int
) -> subprocess.Popen[bytes]:
    file = home / "pgbouncer.ini"
    file.write_text(
        _CONFIGURATION.format(
            database=params.database, host=params.host, port=params.port, user=params.user,
            password=params.password, listen=listen, log=home / "log",
        )
    )  # fmt: skip
    # It refuses to be root.
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    if account is not None:
        for path in (home, file):
            os.chown(path, account.pw_uid, account.pw_gid)
    file.chmod(0o600)
    return subprocess.Popen(
        [binary, "-q", str(file)],
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], params: ConnectionParams, home: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        # Not a session of ours: its settings would stay on the one connection to the server.
        with suppress(psycopg2.OperationalError):
            psycopg2.connect(**params.libpq_keywords()).close()
            return
        time.sleep(0.05)
    log = home / "log"
    raise AssertionError(f"pgbouncer did not start: {log.read_text() if log.exists() else ''}")
