"""The embedded server as a user meets it: `manage.py pg`, in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from dbops.postgres.connection import fetch_value, session
from dbops.postgres.embedded import ROLE, EmbeddedServer
from tests import servers

ROOT = Path(__file__).parents[1]


class Home:
    """A home with an embedded server of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start_process(self, *arguments: str) -> subprocess.Popen[str]:
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments, "--json"], cwd=ROOT, text=True,
            env={**kept, "SKINSPIRE_HOME": str(self.path)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def pg(self, action: str) -> dict[str, Any]:
        return self.finish(self.start_process("pg", action))

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return json.loads(out)["result"]  # type: ignore[no-any-return]

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.path / "postgres")


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    path = servers.test_root() / f"home-{os.getpid()}-{len(list(servers.test_root().iterdir()))}"
    path.mkdir(mode=0o711)
    made = Home(path)
    yield made
    made.server.stop()
    far = made.server.home
    shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(far, ignore_errors=True)


def test_start_status_stop(home: Home) -> None:
    assert home.pg("status")["state"] == "absent"
    started = home.pg("start")
    assert started["state"] == "running"
    assert started["version"] == "18"
    # The command has ended; the server has not.
    for name in ("dev", "test", "prod"):
        with session(home.server.params(name)) as connection:
            assert fetch_value(connection, "SELECT current_database()") == name
    assert home.pg("status")["state"] == "running"
    assert home.pg("start") == started
    assert home.pg("stop")["state"] == "stopped"
    assert home.pg("stop")["state"] == "stopped"
    assert home.pg("start")["state"] == "running"


def test_four_concurrent_starts_make_one_server(home: Home) -> None:
    processes = [home.start_process("pg", "start") for _ in range(4)]
    answers = [home.finish(process) for process in processes]
    assert len({(answer["port"], answer["state"]) for answer in answers}) == 1
    postmasters = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(home.server.data) in " ".join(process.info["cmdline"] or [])
    ]
    assert len(postmasters) == 1
    if os.geteuid() == 0:
        assert postmasters[0].uids().effective != 0


def test_it_is_closed_to_strangers(home: Home) -> None:
    home.pg("start")
    server = home.server
    known = server.read_file()
    assert known is not None
    mode = stat.S_IMODE((server.home / "server.json").stat().st_mode)
    assert mode == 0o600
    for password in ("", "wrong"):
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(host="127.0.0.1", port=known.port, dbname="dev", user=ROLE,
                             password=password or "x")  # fmt: skip
    with session(server.params("dev", superuser=True)) as connection:
        assert fetch_value(connection, "SHOW listen_addresses") == "127.0.0.1"
        stored = fetch_value(
            connection, "SELECT rolpassword FROM pg_authid WHERE rolname = 'skinspire_app'"
        )
        assert stored.startswith("SCRAM-SHA-256$")
        assert (
            fetch_value(
                connection,
                "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = 'skinspire_app'",
            )
            is False
        )


def test_a_home_nobody_else_may_enter(home: Home) -> None:
    """A checkout under /root: root is dropped, and the server still finds its data."""
    home.path.chmod(0o700)
    assert home.pg("start")["state"] == "running"
    with session(home.server.params("dev")) as connection:
        assert fetch_value(connection, "SELECT 1") == 1
    assert home.pg("stop")["state"] == "stopped"


def test_a_port_somebody_took_meanwhile(home: Home) -> None:
    import socket

    port = home.pg("start")["port"]
    home.pg("stop")
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        started = home.pg("start")
        assert started["state"] == "running"
        assert started["port"] != port


def test_commands_without_a_server_say_what_to_do(home: Home) -> None:
    process = home.start_process("dbbackup", "-d", "dev")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert json.loads(out)["error"]["message"]
