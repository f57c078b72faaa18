"""What the catalogue says is due: tables to vacuum or analyse, indexes to build anew."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from psycopg2 import sql

from dbops.postgres.connection import Connection, fetch_all, fetch_value

_FILES = Path(__file__).parents[1] / "sql" / "upkeep"


class TableDue(NamedTuple):
    """One table and what its counters say."""

    schema: str
    name: str
    kind: str
    vacuum: bool
    analyse: bool
    freeze: bool
    """Half-way to the age at which autovacuum would freeze it, whatever its settings."""
    dead: int
    inserted: int
    changed: int
    rows: int
    unknown: bool
    """Never vacuumed or analysed."""
    age: int
    """Transactions since its oldest row was frozen."""
    may: bool
    owner: str


class IndexDue(NamedTuple):
    """One index that is invalid, or large enough to be looked at."""

    schema: str
    name: str
    table: str
    valid: bool
    unique: bool
    leftover: bool
    """What a REINDEX CONCURRENTLY that did not end has left behind."""
    size: int
    needed: int | None
    """Bytes it would have if it were built anew, estimated; None where that is not known."""
    busy: bool
    """Somebody works on it, or on its table, just now."""
    may: bool
    may_drop: bool
    owner: str


def tables_due(connection: Connection) -> list[TableDue]:
    """Every table with what is due on it."""
    rows = fetch_all(connection, _file("tables_due"), [connection.server_version >= 170000])
    return [TableDue(*row) for row in rows]


def indexes_due(connection: Connection) -> list[IndexDue]:
    """Indexes that are invalid, and B-trees from 8 MiB upwards."""
    rows = fetch_all(connection, _file("indexes_due"), [connection.server_version >= 170000])
    return [IndexDue(*row) for row in rows]


def held_by_others(connection: Connection, schema: str, table: str) -> int:
    """How many other transactions hold a lock on a table: building an index anew beside the old one
    waits for each of them to end."""
    return int(
        fetch_value(
            connection,
            """SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                 JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = %s AND c.relname = %s AND l.pid <> pg_backend_pid()""",
            [schema, table],
        )
    )


def leftovers(connection: Connection, schema: str, table: str) -> set[str]:
    """Names of invalid indexes of a table that an unfinished REINDEX CONCURRENTLY leaves."""
    rows = fetch_all(
        connection,
        """SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
            WHERE n.nspname = %s AND t.relname = %s AND NOT i.indisvalid
              AND x.relname ~ '_cc(new|old)[0-9]*$'""",
        [schema, table],
    )
    return {name for (name,) in rows}


def named(statement: str, schema: str, name: str) -> sql.Composed:
    """A statement with one name in it."""
    return sql.SQL(statement).format(sql.Identifier(schema, name))


@cache
def _file(name: str) -> str:
    return (_FILES / f"{name}.sql").read_text(encoding="utf-8")
