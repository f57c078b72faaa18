"""``DATABASES`` from URLs, or from the embedded server where an environment has none.

``<ENV>_DATABASE_URL`` leads to the server itself and serves operations. Beside it there may be
``<ENV>_POOL_URL``, which only ``default`` of the active environment goes by, and
``<ENV>_REPLICA_URL``, which read-only sessions go by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import psycopg2
from psycopg2.extensions import parse_dsn

from dbops.postgres.embedded import ROLE, EmbeddedServer
from skinspire.environment import ENVIRONMENTS
from skinspire.masked import PLACE, is_unambiguous

POSTGRESQL = "django.db.backends.postgresql"
EMBEDDED = "EMBEDDED"
"""Key in ``DATABASES[alias]`` that marks a database of the embedded server."""
REPLICA_SUFFIX = "_replica"
_SCHEMES = ("postgres://", "postgresql://", "pgsql://")
_KEPT_SECONDS = 60
"""For how long a connection of the console outlives its request."""
_CONNECT_SECONDS = 5
"""A page must not wait as long for a server that is gone as an operation may; of each host."""

_LAST_PORT = 65535


class MalformedUrl(ValueError):
    """A ``*_URL`` that is not ``postgresql://user:password@host:port/database``."""


@dataclass(frozen=True)
class EnvironmentUrls:
    """What is configured for one environment; "" for what is not."""

    database: str = ""
    pool: str = ""
    replica: str = ""


def database_from_url(variable: str, url: str, several_hosts: str = "primary") -> dict[str, Any]:
    """Django's settings for a PostgreSQL URL. The error names the variable, never the value.

    libpq itself takes it apart: what comes before the question mark can name several hosts, and
    what follows are libpq's own keywords.

    Args:
        several_hosts: ``target_session_attrs`` of a URL with several hosts that does not say.
            With libpq's ``any``, two sessions of one operation could be on two servers.

    Raises:
        MalformedUrl: not a PostgreSQL URL, or one without a database name.
    """
    shape = f"{variable} must be postgresql://user:password@host:port/database."
    if not url.startswith(_SCHEMES):
        raise MalformedUrl(shape)
    try:
        _require_clear(variable, urlsplit(url))
        found: dict[str, str] = parse_dsn(_readable_by_libpq(url))
    except psycopg2.Error:  # its message quotes what it stumbles over, maybe the password
        raise MalformedUrl(
            f"{variable} is not a database URL: a character that has to be percent-encoded, "
            "or an option behind the question mark that libpq does not know."
        ) from None
    except MalformedUrl:
        raise
    except ValueError:  # urllib's
        raise MalformedUrl(shape) from None
    hosts, ports = found.pop("host", ""), found.pop("port", "")
    if not found.get("dbname"):
        raise MalformedUrl(shape)
    if not all(map(_is_port, ports.split(","))):
        raise MalformedUrl(f"{variable} names a port that is none from 1 to {_LAST_PORT}.")
    if "," in found.get("hostaddr", ""):
        raise MalformedUrl(f"{variable} names several hosts by hostaddr: name them as hosts.")
    if "," in hosts:
        found.setdefault("target_session_attrs", several_hosts)
    return {
        "ENGINE": POSTGRESQL, "NAME": found.pop("dbname"), "HOST": hosts, "PORT": ports,
        "USER": found.pop("user", ""), "PASSWORD": found.pop("password", ""), "OPTIONS": found,
    }  # fmt: skip


def _readable_by_libpq(url: str) -> str:
    """A password may hold an @ as it is: libpq would take what follows for the host."""
    rest = url.partition("://")[2]
    place = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    user, at, hosts = rest[:place].rpartition("@")
    return f"postgresql://{user.replace('@', '%40')}{at}{hosts}{rest[place:]}"


def _is_port(text: str) -> bool:
    return not text or (text.isdecimal() and 0 < int(text) <= _LAST_PORT)


def _require_clear(variable: str, parts: SplitResult) -> None:
    """Refuse what would lead elsewhere than was meant. Raises MalformedUrl."""
    if not is_unambiguous(parts):
        # The rest of the password would be taken for a port, a database or an option.
        raise MalformedUrl(
            f"{variable} has an unescaped /, ?, # or @ in its password: write %2F, %3F, %23, %40."
        )
    for place in filter(None, parts.netloc.rpartition("@")[2].split(",")):
        if not PLACE.fullmatch(place):
            raise MalformedUrl(f"{variable} names a host that cannot be one.")


def embedded_database(home: Path, name: str) -> dict[str, Any]:
    """Django's settings for a database of the embedded server.

    Before its first start there is no port or password yet: the settings then point nowhere.
    """
    server = EmbeddedServer(home / "postgres")
    known = server.read_file()
    return {
        "ENGINE": POSTGRESQL,
        "NAME": name,
        "HOST": "127.0.0.1",
        "PORT": str(known.port) if known else "1",
        "USER": ROLE,
        "PASSWORD": known.password if known else "",
        EMBEDDED: True,
    }


def environment_databases(
    urls: Mapping[str, EnvironmentUrls], home: Path
) -> dict[str, dict[str, Any]]:
    """The aliases ``dev``, ``test`` and ``prod``, and those of replicas."""
    found = {
        name: database_from_url(f"{name.upper()}_DATABASE_URL", urls[name].database)
        if urls[name].database
        else embedded_database(home, name)
        for name in ENVIRONMENTS
    }
    for name in ENVIRONMENTS:
        if urls[name].replica:
            found[name + REPLICA_SUFFIX] = replica_database(name, urls[name].replica)
    return found


def console_databases(
    database: dict[str, Any], active: str, pool: str
) -> dict[str, dict[str, Any]]:
    """``default`` and the active environment's alias, whose ``database`` is, for a process that
    answers requests.

    Args:
        pool: the URL of the active environment's pooler; "" where it has none.
    """
    if pool:
        console = for_requests(database_from_url(f"{active.upper()}_POOL_URL", pool))
        return {"default": console, active: database}
    console = for_requests(database)  # one and the same, as a test database is for both
    return {"default": console, active: console}


def for_requests(database: dict[str, Any]) -> dict[str, Any]:
    """The same database for a process that answers requests: connections stay open, are tried
    before they are used again, and keep nothing that a pooler in transaction mode would lose."""
    return database | {
        "CONN_MAX_AGE": _KEPT_SECONDS,
        "CONN_HEALTH_CHECKS": True,
        # A cursor of the server would be sought on another of the pooler's connections.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"connect_timeout": _CONNECT_SECONDS} | (database.get("OPTIONS") or {}),
    }


def replica_database(environment: str, url: str) -> dict[str, Any]:
    """What read-only sessions of an environment go by. Tests take the primary for it."""
    variable = f"{environment.upper()}_REPLICA_URL"
    found = for_requests(database_from_url(variable, url, "prefer-standby"))
    return found | {"CONN_MAX_AGE": 0, "TEST": {"MIRROR": environment}}


def control_database(url: str, home: Path) -> dict[str, Any]:
    """What must survive when an environment is replaced: SQLite beside us, or PostgreSQL."""
    if url:
        return database_from_url("CONTROL_DATABASE_URL", url)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": home / "control.sqlite3",
        "OPTIONS": {
            # IMMEDIATE: two writers queue instead of failing when both upgrade a read lock.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
