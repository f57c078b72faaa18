"""Where a database is and how to reach it, as one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DEFAULT_PORT = 5432


@dataclass(frozen=True)
class ConnectionParams:
    """libpq's connection parameters; the password never shows in ``repr``."""

    database: str
    host: str = ""
    """Several with commas between them: libpq takes the first that answers as it should."""
    port: int | str = DEFAULT_PORT
    """One for all hosts, or as many as there are, with commas between them."""
    user: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further libpq keywords such as ``sslmode`` or ``sslrootcert``."""

    def with_database(self, database: str) -> ConnectionParams:
        """The same server, another database."""
        return replace(self, database=database)

    def with_settings(self, settings: Mapping[str, str]) -> ConnectionParams:
        """The same, with server settings that hold from the first moment of every session and
        stand in no statement.

        Args:
            settings: names and values without blanks and backslashes.
        """
        words = [self.extra.get("options", ""), *(f"-c {k}={v}" for k, v in settings.items())]
        return replace(self, extra={**self.extra, "options": " ".join(filter(None, words))})

    def libpq_keywords(self) -> dict[str, Any]:
        """Keyword arguments for ``psycopg2.connect``; empty values are left to libpq's defaults."""
        keywords: dict[str, Any] = {
            "dbname": self.database,
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            **self.extra,
        }
        return {key: value for key, value in keywords.items() if value not in ("", None)}

    def libpq_environment(self) -> dict[str, str]:
        """Environment of a child process, without the password (see ``process.passfile``).

        The database name travels as PGDATABASE: as an argument libpq would expand a name that
        contains ``=`` into a connection string.
        """
        environment = {"PGDATABASE": self.database, "PGPORT": str(self.port)}
        if self.host:
            environment["PGHOST"] = self.host
        if self.user:
            environment["PGUSER"] = self.user
        # libpq's variables are its keywords without underscores: PGTARGETSESSIONATTRS.
        return environment | {
            f"PG{key.upper().replace('_', '')}": value for key, value in self.extra.items()
        }

    @property
    def dbname_argument(self) -> str:
        """``--dbname`` for tools that insist on one: quoted, so that no name is expanded."""
        escaped = self.database.replace("\\", "\\\\").replace("'", "\\'")
        return f"dbname='{escaped}'"

    @property
    def address(self) -> str:
        """``host:port``, of each host."""
        hosts = (self.host or self.extra.get("hostaddr") or "local socket").split(",")
        given = str(self.port).split(",")
        ports = given if len(given) == len(hosts) else given[:1] * len(hosts)
        return ",".join(
            f"[{host}]:{port or DEFAULT_PORT}" if ":" in host else f"{host}:{port or DEFAULT_PORT}"
            for host, port in zip(hosts, ports, strict=True)
        )

    @property
    def label(self) -> str:
        """``user@host:port/database`` for people; never the password."""
        return f"{self.user}@{self.address}/{self.database}"
