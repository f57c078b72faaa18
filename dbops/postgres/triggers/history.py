"""The table that row history is kept in: it only grows, and never goes to another environment."""

from __future__ import annotations

from psycopg2 import sql

from dbops.exceptions import StatementError
from dbops.postgres.connection import Connection, execute, fetch_row, fetch_value
from dbops.postgres.process import Poll
from dbops.postgres.pump import copy_rows
from dbops.postgres.triggers.survey import file

TABLE = "skinspire.row_history"
LABEL = f"{TABLE}: skinspire_guard"
LEFT_OUT = f"--exclude-table-data={TABLE}"
"""The option of pg_dump that leaves its rows where they are."""
_STATE = """
SELECT c.oid IS NOT NULL, t.tgenabled = 'A' AND p.pronamespace = c.relnamespace
       AND p.proname = 'refuse_change' AND t.tgtype = 58 AND c.relowner = w.proowner
  FROM (VALUES (to_regclass('skinspire.row_history'))) v (oid)
  LEFT JOIN pg_class c ON c.oid = v.oid AND c.relkind = 'r'
  LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'skinspire_guard'
  LEFT JOIN pg_proc p ON p.oid = t.tgfoid
  LEFT JOIN pg_proc w ON w.oid = to_regprocedure('skinspire.record_history()')
"""
_KINDS = {"r": "TABLE", "p": "TABLE", "v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE"}


def state(connection: Connection) -> str:
    """``installed``, ``outdated`` (its guard is not as it should be), or ``missing``."""
    there, guarded = fetch_row(connection, _STATE) or (False, None)
    return "missing" if not there else "installed" if guarded else "outdated"


def make(connection: Connection) -> None:
    """Make table and guard, where they are missing. Raises StatementError."""
    execute(connection, file("row_history"))


def count(connection: Connection) -> int | None:
    """The rows it holds, under the connection's snapshot; None where there is no such table."""
    if state(connection) == "missing":
        return None
    return int(fetch_value(connection, f"SELECT count(*) FROM ONLY {TABLE}"))


def carry(source: Connection, target: Connection, poll: Poll) -> int:
    """Copy what was recorded into another database, where nothing is; how many rows."""
    if state(target) == "missing":
        make(target)
    columns = f"{TABLE} (id, at, transaction_id, actor, table_schema, table_name, key, operation,"
    columns += " old_values, new_values)"
    rows = copy_rows(
        source, target, sql.SQL(f"COPY {columns} TO STDOUT"), sql.SQL(f"COPY {columns} FROM STDIN"),
        poll,
    )  # fmt: skip
    execute(
        target,
        f"SELECT setval(pg_get_serial_sequence('{TABLE}', 'id'), max(id)) FROM {TABLE}",
    )
    return rows


def forget(connection: Connection) -> int:
    """Drop what was recorded elsewhere, and begin anew where anything is still to be recorded. How
    many rows went.

    By dropping, because the guard lets nothing else through, whoever asks.

    Raises:
        StatementError: the connecting role may not.
    """
    kind = fetch_value(
        connection, "SELECT relkind FROM pg_class WHERE oid = to_regclass('skinspire.row_history')"
    )
    if kind is None:
        return 0
    if kind not in _KINDS:
        raise StatementError(f"{TABLE} is not a table: it was not made by Skinspire.")
    rows = count(connection) or 0
    execute(connection, f"DROP {_KINDS[kind]} {TABLE} CASCADE")
    if fetch_value(connection, "SELECT to_regprocedure('skinspire.record_history()')") is not None:
        make(connection)
    return rows
