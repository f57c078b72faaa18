"""What a database holds, in detail: each question is one query over pg_catalog, whatever the number
of tables. The queries are in ``sql/inspection``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dbops.postgres.connection import Connection, fetch_all, fetch_row

_FILES = Path(__file__).parents[1] / "sql" / "inspection"


class DatabaseRow(NamedTuple):
    """The database itself."""

    version: str
    size: int
    """Bytes."""
    encoding: str
    collation: str
    ctype: str
    owner: str
    connections: int
    """Sessions on it now, ours included."""
    server_connections: int
    connection_limit: int
    """-1: none of its own."""
    server_limit: int
    """What the server leaves to ordinary roles."""
    age: int
    """Transactions since its oldest row was frozen; the server stops near 2,100 million."""


class SchemaRow(NamedTuple):
    """One schema and how much is in it."""

    name: str
    owner: str
    tables: int
    views: int
    sequences: int
    functions: int
    size: int
    """Bytes, as of the last VACUUM or ANALYZE."""
    comment: str | None


class TableRow(NamedTuple):
    """One table. None: not known (never vacuumed or analysed), or it has no rows of its own."""

    schema: str
    name: str
    kind: str
    rows: int | None
    """Estimated."""
    size: int | None
    """Bytes of its rows, TOAST included, without indexes."""
    index_size: int | None
    indexes: int
    invalid_indexes: int
    triggers: int
    bloat: int | None
    """Bytes of it that hold nothing, estimated; only from 1 MiB upwards."""
    dead_rows: int | None
    last_vacuum: datetime | None
    last_analyze: datetime | None
    partition_of: str | None

    @property
    def total(self) -> int:
        """Bytes of all of it, as far as known."""
        return (self.size or 0) + (self.index_size or 0)


class RelationRow(NamedTuple):
    """What a table or view is as a whole."""

    owner: str
    comment: str | None
    persistence: str
    heap_size: int | None
    toast_size: int | None
    index_size: int | None
    partitioned_by: str | None
    partition_bounds: str | None
    children: int
    row_security: bool
    query: str | None
    readable: bool


class ColumnRow(NamedTuple):
    """One column."""

    name: str
    type: str
    nullable: bool
    default: str | None
    generated: str | None
    identity: str | None
    collation: str | None
    comment: str | None

    @property
    def filled(self) -> str:
        """What fills it where nothing is given; "" for NULL."""
        if self.identity:
            return f"identity, {self.identity}"
        if self.generated:
            return f"generated: {self.generated}"
        return self.default or ""


class ConstraintRow(NamedTuple):
    """One constraint."""

    name: str
    type: str
    definition: str
    validated: bool
    deferrable: bool
    comment: str | None


class IndexRow(NamedTuple):
    """One index."""

    name: str
    definition: str
    unique: bool
    primary: bool
    valid: bool
    size: int
    scans: int
    comment: str | None


class ReferenceRow(NamedTuple):
    """A foreign key that points here."""

    schema: str
    table: str
    name: str
    definition: str


class TriggerRow(NamedTuple):
    """One trigger."""

    schema: str
    table: str
    name: str
    timing: str
    events: str
    level: str
    function_schema: str
    function: str
    state: str
    """enabled, disabled, on replicas, always."""
    ours: bool
    inherited: bool
    definition: str

    @property
    def when(self) -> str:
        """When it fires, in words."""
        return f"{self.timing} {self.events}, each {self.level}"


class FunctionRow(NamedTuple):
    """One function, procedure or aggregate."""

    schema: str
    name: str
    arguments: str
    returns: str | None
    kind: str
    language: str
    volatility: str
    security_definer: bool
    owner: str
    public: bool
    """Everybody may execute it."""
    settings: str | None
    comment: str | None


class Found(NamedTuple):
    """A table, or view, by its number."""

    id: int
    schema: str
    name: str


def names(connection: Connection, schema: str | None = None) -> list[Found]:
    """Every table and view; those of the system only where their schema is named."""
    return [Found(*row) for row in _rows(connection, "names", schema)]


def database(connection: Connection) -> DatabaseRow:
    """The connected database."""
    row = fetch_row(connection, _file("database"))
    assert row is not None
    return DatabaseRow(*row)


def unreadable(connection: Connection) -> tuple[str, int]:
    """The connecting role, and how many tables of users it may not read."""
    role, count = _rows(connection, "unreadable")[0]
    return role, count


def schemas(connection: Connection, schema: str | None = None) -> list[SchemaRow]:
    """Schemas of users, or the one that is named."""
    return [SchemaRow(*row) for row in _rows(connection, "schemas", schema)]


def tables(
    connection: Connection, schema: str | None = None, table: int | None = None
) -> list[TableRow]:
    """Tables of users, of one schema, or one table."""
    return [TableRow(*row) for row in _rows(connection, "tables", schema, table)]


def triggers(
    connection: Connection, schema: str | None = None, table: int | None = None
) -> list[TriggerRow]:
    """Triggers on tables of users, of one schema, or on one table."""
    return [TriggerRow(*row) for row in _rows(connection, "triggers", schema, table)]


def functions(
    connection: Connection, schema: str | None = None, table: int | None = None
) -> list[FunctionRow]:
    """Functions of users, of one schema, or those that one table's triggers call."""
    return [FunctionRow(*row) for row in _rows(connection, "functions", schema, table)]


def relation(connection: Connection, table: int) -> RelationRow:
    """One table or view as a whole."""
    return RelationRow(*_rows(connection, "relation", table)[0])


def columns(connection: Connection, table: int) -> list[ColumnRow]:
    """A table's columns, in their order."""
    return [ColumnRow(*row) for row in _rows(connection, "columns", table)]


def constraints(connection: Connection, table: int) -> list[ConstraintRow]:
    """A table's constraints."""
    return [ConstraintRow(*row) for row in _rows(connection, "constraints", table)]


def indexes(connection: Connection, table: int) -> list[IndexRow]:
    """A table's indexes."""
    return [IndexRow(*row) for row in _rows(connection, "indexes", table)]


def referenced_by(connection: Connection, table: int) -> list[ReferenceRow]:
    """Foreign keys that point at a table."""
    return [ReferenceRow(*row) for row in _rows(connection, "referenced_by", table)]


def _rows(connection: Connection, file: str, *args: Any) -> Sequence[tuple[Any, ...]]:
    return fetch_all(connection, _file(file), args)


@cache
def _file(name: str) -> str:
    return (_FILES / f"{name}.sql").read_text(encoding="utf-8")
