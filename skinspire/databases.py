"""``DATABASES`` from URLs, or from the embedded server where an environment has none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import environ

from dbops.postgres.embedded import ROLE, EmbeddedServer
from skinspire.environment import ENVIRONMENTS
from skinspire.masked import is_unambiguous

POSTGRESQL = "django.db.backends.postgresql"
EMBEDDED = "EMBEDDED"
"""Key in ``DATABASES[alias]`` that marks a database of the embedded server."""

# A name or address, or a directory of sockets in its escaped form; ":" and digits behind it.
_PLACE = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[\w.%~-]*)(?::(\d*))?")
_LAST_PORT = 65535


class MalformedUrl(ValueError):
    """A ``*_DATABASE_URL`` that is not ``postgresql://user:password@host:port/database``."""


def database_from_url(variable: str, url: str) -> dict[str, Any]:
    """Django's settings for a PostgreSQL URL. The error names the variable, never the value.

    Raises:
        MalformedUrl: not a PostgreSQL URL, or one without a database name.
    """
    try:
        _require_clear(variable, urlsplit(url))
        settings = dict(environ.Env.db_url_config(url, engine=POSTGRESQL))
    except MalformedUrl:
        raise
    except Exception as error:  # django-environ lets whatever urllib raised through
        raise MalformedUrl(f"{variable} is not a database URL.") from error
    if not url.startswith(("postgres://", "postgresql://", "pgsql://")) or not settings["NAME"]:
        raise MalformedUrl(f"{variable} must be postgresql://user:password@host:port/database.")
    return settings


def _require_clear(variable: str, parts: SplitResult) -> None:
    """Refuse what would lead elsewhere than was meant. Raises MalformedUrl."""
    if not is_unambiguous(parts):
        # The rest of the password would be taken for a port, a database or an option.
        raise MalformedUrl(
            f"{variable} has an unescaped /, ?, # or @ in its password: write %2F, %3F, %23, %40."
        )
    for place in filter(None, parts.netloc.rpartition("@")[2].split(",")):
        match = _PLACE.fullmatch(place)
        if not match:
            raise MalformedUrl(f"{variable} names a host that cannot be one.")
        if match[1] is not None and not 0 < int(match[1] or 0) <= _LAST_PORT:
            raise MalformedUrl(f"{variable} names a port that is none from 1 to {_LAST_PORT}.")


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


def environment_databases(urls: dict[str, str], home: Path) -> dict[str, dict[str, Any]]:
    """The aliases ``dev``, ``test`` and ``prod``.

    Args:
        urls: the value of ``<ENV>_DATABASE_URL`` by environment; "" for the embedded server.
    """
    return {
        name: database_from_url(f"{name.upper()}_DATABASE_URL", urls[name])
        if urls[name]
        else embedded_database(home, name)
        for name in ENVIRONMENTS
    }


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
