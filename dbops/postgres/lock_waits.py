"""For whom a session waits: the table, and who holds it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from dbops.postgres.connection import Connection, fetch_row

_BLOCKERS = Path(__file__).parents[1] / "sql" / "migration" / "blockers.sql"


class Blocker(NamedTuple):
    """A session that holds what another waits for."""

    relation: str
    """"schema.table", or half a sentence where it is a row."""
    pid: int
    role: str
    application: str
    state: str
    since: datetime | None
    """When its transaction began."""

    def __str__(self) -> str:
        program = f"{self.application}, " if self.application else ""
        since = f" since {self.since.astimezone(UTC):%H:%M:%S} UTC" if self.since else ""
        return f"{self.role} ({program}process {self.pid}, {self.state}{since})"


def find_blocker(connection: Connection, pid: int) -> Blocker | None:
    """Who keeps the session with that process waiting, first of all; None where it does not wait.

    Args:
        connection: another session on the same database.
    """
    row = fetch_row(connection, _BLOCKERS.read_text(encoding="utf-8"), [pid])
    return Blocker(*row) if row else None
