"""Trying masks on a few real rows: what only the data and the constraints can tell."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg2.errorcodes import INSUFFICIENT_PRIVILEGE
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from dbops.exceptions import StatementError
from dbops.masking.survey import Table
from dbops.masking.values import KEY_BYTES, KEY_SETTING, literal, quoted
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_value

_ROWS = 100


def probe_rows(
    connection: Connection,
    tables: Mapping[str, Table],
    compiled: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """Sentences about masks that fail, or whose values a CHECK constraint would refuse."""
    problems: list[str] = []
    for label, expressions in compiled.items():
        table = tables[label]
        with _aside(connection):
            problems += _probe_table(connection, table, expressions)
    return list(dict.fromkeys(problems))


def preview_rows(
    connection: Connection, table: Table, expressions: Mapping[str, str], limit: int, key: bytes
) -> list[tuple[str | None, ...]]:
    """A few rows as they would arrive, masked columns alone, as text."""
    chosen = ", ".join(f"({expression})::text" for expression in expressions.values())
    only = "ONLY " if table.holds_rows else ""
    with _aside(connection, key):
        return fetch_all(
            connection, f"SELECT {chosen} FROM {only}{_name(table)} LIMIT {int(limit)}"
        )


def _probe_table(
    connection: Connection, table: Table, expressions: Mapping[str, str]
) -> Iterator[str]:
    rows = _masked_rows(table, expressions)
    failure = _failure(connection, f"SELECT count(s::text) FROM ({rows}) s")
    if failure:
        yield from (
            f"{table.root}.{name}: {each}."
            for name, expression in expressions.items()
            if (each := _failure(
                connection,
                f"SELECT count(s::text) FROM ({_masked_rows(table, {name: expression})}) s",
            ))
        )  # fmt: skip
        return
    generated = {name for name, column in table.columns.items() if column.generated}
    for check in table.checks:
        masked = sorted(set(check.columns) & expressions.keys())
        if not masked or generated & set(check.columns):
            continue
        alias = quoted(table.name)
        statement = f"SELECT FROM ({rows}) {alias} WHERE NOT ({check.expression}) LIMIT 1"
        if _found(connection, statement):
            where = f"{table.root}.{', '.join(masked)}"
            yield f"{where}: the false values break the constraint {check.name}."


def _masked_rows(table: Table, expressions: Mapping[str, str]) -> str:
    chosen = ", ".join(
        f"{expressions.get(name, quoted(name))} AS {quoted(name)}" for name in table.columns
    )
    return f"SELECT {chosen} FROM ONLY {_name(table)} LIMIT {_ROWS}"


def _name(table: Table) -> str:
    return quoted(table.schema, table.name)


def _failure(connection: Connection, statement: str) -> str:
    """The server's sentence, "" where there is none. What may not be read is not ours to tell: the
    copy names it."""
    try:
        with _savepoint(connection):
            fetch_value(connection, statement)
    except StatementError as error:
        if getattr(error.__cause__, "pgcode", None) == INSUFFICIENT_PRIVILEGE:
            return ""
        return str(error).rstrip(".")
    return ""


def _found(connection: Connection, statement: str) -> bool:
    try:
        with _savepoint(connection):
            return bool(fetch_all(connection, statement))
    except StatementError:  # the target's own look at the constraint will tell
        return False


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    execute(connection, "SAVEPOINT skinspire_probe")
    try:
        yield
    except StatementError:
        execute(connection, "ROLLBACK TO SAVEPOINT skinspire_probe")
        raise
    finally:
        execute(connection, "RELEASE SAVEPOINT skinspire_probe")


@contextmanager
def _aside(connection: Connection, key: bytes = b"") -> Iterator[None]:
    """Inside a read-only transaction, or inside the caller's, with a key for as long."""
    own = connection.get_transaction_status() == TRANSACTION_STATUS_IDLE
    execute(connection, "BEGIN READ ONLY" if own else "SAVEPOINT skinspire_aside")
    try:
        used = (key or secrets.token_bytes(KEY_BYTES)).hex()
        execute(connection, f"SELECT pg_catalog.set_config({literal(KEY_SETTING)}, '{used}', true)")
        yield
    finally:
        execute(connection, "ROLLBACK" if own else "ROLLBACK TO SAVEPOINT skinspire_aside")
        if not own:
            execute(connection, "RELEASE SAVEPOINT skinspire_aside")
