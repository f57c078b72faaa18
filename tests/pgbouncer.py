"""A PgBouncer in transaction mode before a test server."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests import servers
from tests.conftest import skip_or_fail
from tests.servers import Server


@contextmanager
def pgbouncer(server: Server, databases: str = "*", size: int = 2) -> Iterator[int]:
    """The port it listens on; the server's own role and password open it.

    Args:
        databases: a name it knows, or all of them.
        size: how many connections to the server each database has.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        skip_or_fail("pgbouncer is not installed")
    assert program is not None
    params = server.params
    home = servers.test_root() / f"bouncer-{secrets.token_hex(3)}"
    home.mkdir(mode=0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (home / "users").write_text(f'"{params.user}" "{params.password}"\n')
    (home / "ini").write_text(
        f"""[databases]
{databases} = host={params.host} port={params.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {home}/users
pool_mode = transaction
default_pool_size = {size}
"""
    )
    for path in home.iterdir():
        path.chmod(0o644)
    # It refuses to run as root.
    account = server.embedded.account
    user = ["-u", pwd.getpwuid(account.uid).pw_name] if account else []
    process = subprocess.Popen([program, "-q", *user, str(home / "ini")], stderr=subprocess.PIPE)
    try:
        _await(process, port)
        yield port
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(home)


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.02)
    raise AssertionError("pgbouncer does not answer")
