"""A snapshot several sessions look through, so that a dump and its row counts agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg2 import sql

from dbops.postgres.catalog import NOT_OF_EXTENSION, USER_SCHEMA, batched
from dbops.postgres.connection import (
    Connection,
    execute,
    fetch_all,
    fetch_all_polled,
    fetch_value,
    session,
)
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Poll


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


def look_through(connection: Connection, snapshot: str) -> None:
    """Begin a transaction that sees what the exported snapshot sees. Raises StatementError."""
    execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    execute(connection, "SET TRANSACTION SNAPSHOT %s", [snapshot])


def lock_tables(
    connection: Connection, names: Sequence[str], poll: Poll, mode: str = "ACCESS SHARE"
) -> None:
    """Keep tables from being altered, emptied or dropped until the transaction ends; in the mode
    ``SHARE`` also from being written. Reading goes on.

    Raises:
        StatementError: somebody has locked one, which the server names.
    """
    for part in batched(names):
        tables = sql.SQL(", ONLY ").join(sql.Identifier(*name.split(".", 1)) for name in part)
        fetch_all_polled(
            connection, sql.SQL(f"LOCK TABLE ONLY {{}} IN {mode} MODE").format(tables), poll
        )


def unreadable(connection: Connection) -> list[str]:
    """What the connecting role cannot read whole: tables and sequences without the right, tables
    whose row security would hide rows."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s', n.nspname, c.relname)
                   || CASE WHEN c.relkind <> 'S' AND row_security_active(c.oid)
                           THEN ' (row security)' ELSE '' END
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
               AND {USER_SCHEMA} AND {NOT_OF_EXTENSION}
               AND (NOT has_schema_privilege(n.oid, 'USAGE')
                    OR CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT')
                       ELSE NOT has_table_privilege(c.oid, 'SELECT')
                            OR row_security_active(c.oid) END)
             ORDER BY 1""",
    )
    return [name for (name,) in rows]
