"""What stays of a database whose objects go: schemas, extensions, default privileges."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dbops.postgres.connection import Connection, fetch_all

_FILE = Path(__file__).parents[1] / "sql" / "upkeep" / "rooms.sql"


def read_rooms(connection: Connection) -> list[str]:
    """The statements that make them again in an empty database of the same server, in order."""
    return [statement for (statement,) in fetch_all(connection, _statements())]


@cache
def _statements() -> str:
    return _FILE.read_text(encoding="utf-8")
