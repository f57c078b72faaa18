"""A snapshot several sessions look through, so that a dump and its row counts agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dbops.postgres.connection import Connection, execute, fetch_value, session
from dbops.postgres.params import ConnectionParams


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot and the open transaction that keeps it alive."""

    connection: Connection
    id: str


@contextmanager
def exported_snapshot(params: ConnectionParams, *, application: str) -> Iterator[Snapshot]:
    """A REPEATABLE READ transaction whose view ``pg_dump --snapshot`` can share."""
    with session(params, application=application) as connection:
        execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield Snapshot(connection, str(fetch_value(connection, "SELECT pg_export_snapshot()")))
