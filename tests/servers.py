"""Real PostgreSQL servers for the tests: the wheel's 16 and 18, and Debian's 15 where it is
installed."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from psycopg2 import sql

from dbops.postgres.connection import execute, session
from dbops.postgres.databases import drop_database
from dbops.postgres.embedded import EmbeddedServer
from dbops.postgres.params import ConnectionParams
from dbops.postgres.tools import wheel_directories

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
ROOT_VARIABLE = "SKINSPIRE_TEST_ROOT"
# Nothing a test does has to outlive a power cut.
FAST = {"fsync": "off", "max_connections": "200", "full_page_writes": "off"}


def binaries(major: int) -> Path | None:
    """Where the server of that major lives, or None where it is not installed."""
    if major == 15:
        return DEBIAN_15 if (DEBIAN_15 / "postgres").exists() else None
    return wheel_directories()[0 if major == 18 else 1]


@dataclass(frozen=True)
class Server:
    """One running server and what tests ask of it."""

    major: int
    embedded: EmbeddedServer

    @property
    def params(self) -> ConnectionParams:
        """The ordinary role (CREATEDB, no superuser) on the maintenance database."""
        return self.embedded.params("postgres")

    @property
    def superuser(self) -> ConnectionParams:
        return self.embedded.params("postgres", superuser=True)

    def create_database(self, name: str = "") -> ConnectionParams:
        """A fresh empty database owned by the ordinary role."""
        name = name or f"t_{secrets.token_hex(4)}"
        with session(self.params) as connection:
            execute(connection, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.params.with_database(name)

    def drop_database(self, name: str) -> None:
        with session(self.superuser) as connection:
            drop_database(connection, name)

    def url(self, database: str) -> str:
        params = self.params
        return (
            f"postgresql://{params.user}:{params.password}@{params.host}:{params.port}/{database}"
        )


def test_root() -> Path:
    """A directory of this test run that a service account may enter; made by the first process."""
    known = os.environ.get(ROOT_VARIABLE)
    if known:
        return Path(known)
    root = Path(tempfile.mkdtemp(prefix="skinspire-test-"))
    root.chmod(0o711)
    os.environ[ROOT_VARIABLE] = str(root)
    return root


def server(major: int, name: str = "") -> Server | None:
    """The server of that major, started if need be; None where it is not installed.

    Args:
        name: tells a second one of the same major from the first.
    """
    found = binaries(major)
    if found is None:
        return None
    embedded = EmbeddedServer(test_root() / f"pg{major}{name}", binaries=found, settings=FAST)
    embedded.start()
    return Server(major, embedded)


def stop_all() -> None:
    """Stop every server of this run and remove its directory."""
    root = test_root()
    for home in root.glob("pg*"):
        EmbeddedServer(home, binaries=binaries(int(home.name[2:4]))).stop()
    shutil.rmtree(root, ignore_errors=True)
