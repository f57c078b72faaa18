"""A hot standby of a test server, streaming from it."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dbops.postgres.connection import fetch_value, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import run
from tests.servers import FAST, Server


@dataclass(frozen=True)
class Standby:
    primary: Server
    data: Path
    port: int

    @property
    def params(self) -> ConnectionParams:
        return replace(self.primary.params, port=self.port)

    def catch_up(self) -> None:
        """Wait until it shows all that the primary has committed."""
        with session(self.primary.superuser) as primary:
            goal = fetch_value(primary, "SELECT pg_current_wal_flush_lsn()")
        deadline = time.monotonic() + 60
        with session(self.params) as standby:
            while not fetch_value(standby, "SELECT pg_last_wal_replay_lsn() >= %s", [goal]):
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def stop(self) -> None:
        self._pg_ctl("stop", "--mode=fast", "--wait")

    def start(self, **settings: str) -> None:
        every = {**FAST, "port": str(self.port), "listen_addresses": "127.0.0.1",
                 "unix_socket_directories": "", **settings}  # fmt: skip
        options = " ".join(f"-c {key}='{value}'" for key, value in every.items())
        log = self.data / "server.log"
        # One that takes no sessions is never told apart from one that is not there yet.
        wait = "--no-wait" if settings.get("hot_standby") == "off" else "--wait"
        self._pg_ctl("start", wait, f"--log={log}", f"--options={options}")

    def _pg_ctl(self, action: str, *options: str) -> None:
        embedded = self.primary.embedded
        embedded._run("pg_ctl", action, f"--pgdata={self.data}", *options)


@contextmanager
def standby(primary: Server) -> Iterator[Standby]:
    embedded, root = primary.embedded, primary.superuser
    home = embedded.home / "standby"
    home.mkdir(mode=0o700)
    if embedded.account:
        shutil.chown(home, embedded.account.uid, embedded.account.gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Standby(primary, home / "data", int(probe.getsockname()[1]))
    run(
        [embedded._bin() / "pg_basebackup", f"--pgdata={made.data}", "--write-recovery-conf",
         "--wal-method=stream", "--checkpoint=fast", "--no-sync"],
        environment={"PGHOST": root.host, "PGPORT": str(root.port), "PGUSER": root.user,
                     "PGPASSWORD": root.password},
        run_as=embedded.account, cwd=home,
    )  # fmt: skip
    made.start()
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home)
