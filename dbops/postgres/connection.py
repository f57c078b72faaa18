"""Connections by psycopg2: opened for one purpose, closed for certain, errors in one sentence."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2 import sql

from dbops.exceptions import ConnectionFailedError, PooledConnectionError, StatementError
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Poll

Connection = psycopg2.extensions.connection
Statement = str | sql.Composable

CONNECT_TIMEOUT = 10
"""Seconds."""
# A role or a database can be given settings that every session starts with. Ours follow neither a
# hostile search_path nor a timeout meant for web requests: one would end a count of rows, another
# the idle session that holds an operation's lock.
_OURS = {
    "search_path": "pg_catalog, pg_temp",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    "default_transaction_read_only": "off",
    # Row security that would hide rows is an error, not a smaller count or a smaller backup.
    "row_security": "off",
}
WRITTEN = {
    "datestyle": "ISO, YMD", "intervalstyle": "postgres", "timezone": "UTC",
    "extra_float_digits": "1", "bytea_output": "hex", "xmloption": "content", "lc_monetary": "C",
}  # fmt: skip
"""How values are written as text, where a setting decides it."""
# PgBouncer's own words, where PostgreSQL has others: it knows no maintenance database, or refuses
# the settings a URL brings.
_OF_POOLERS = ("no such database:", "unsupported startup parameter")
OUR_SEARCH_PATH = f"SELECT pg_catalog.set_config('search_path', '{_OURS['search_path']}', false)"
"""For a session in which somebody else's script has set another."""


def our_settings(server_version: int) -> dict[str, str]:
    """The settings of a session of ours on a server of that version (180004)."""
    known = server_version >= 170000
    return {name: value for name, value in _OURS.items() if known or name != "transaction_timeout"}


def first_line(error: BaseException) -> str:
    """The server's own sentence, without the position and context lines that follow it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "ERROR:" in line]
    line = (telling or lines or [type(error).__name__])[0]
    return line.split("FATAL:")[-1].split("ERROR:")[-1].strip()


def connect(
    params: ConnectionParams, *, application: str = "skinspire", actor: str = ""
) -> Connection:
    """An autocommit connection with settings of ours: see ``_OURS``.

    Raises:
        ConnectionFailedError: no answer, or refused. The message names no password.
        PooledConnectionError: a pooler answers in the server's stead.
    """
    try:
        connection: Connection = psycopg2.connect(
            **params.libpq_keywords(),
            connect_timeout=CONNECT_TIMEOUT,
            application_name=application[:63],
            client_encoding="UTF8",
        )
    except psycopg2.OperationalError as error:
        line = first_line(error)
        if any(words in line for words in _OF_POOLERS):
            raise _pooled(params) from error
        raise ConnectionFailedError(
            f"Cannot connect to {params.label}: {line}",
            hint="Is the server up? The embedded one starts with: python manage.py pg start",
        ) from error
    connection.autocommit = True
    try:
        if not apply_settings(connection, our_settings(connection.server_version)):
            raise _pooled(params)
        if actor:
            execute(connection, "SELECT set_config('skinspire.actor', %s, false)", [actor])
    except BaseException:
        connection.close()
        raise
    return connection


def apply_settings(connection: Connection, settings: Mapping[str, str]) -> bool:
    """For the rest of the session. Raises StatementError.

    False, and nothing is set, where the session is a pooler's: it tells its client a process id
    of its own making, and would hand our settings on to whoever gets the session next.
    """
    return bool(
        execute(
            connection,
            # Qualified: the search_path is not ours yet.
            """SELECT pg_catalog.set_config(name, value, false)
                 FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]),
                                 pg_catalog.unnest(%s::pg_catalog.text[])) s (name, value)
                WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) %s""",
            [list(settings), list(settings.values()), connection.info.backend_pid],
        )
    )


def _pooled(params: ConnectionParams) -> PooledConnectionError:
    return PooledConnectionError(
        f"{params.address} is a connection pooler, which cannot keep the locks, snapshots and "
        "settings of an operation.",
        hint="Let <ENV>_DATABASE_URL lead to the server itself; the pooler's address belongs into "
        "<ENV>_POOL_URL, which the console goes by.",
    )


@contextmanager
def session(
    params: ConnectionParams, *, application: str = "skinspire", actor: str = ""
) -> Iterator[Connection]:
    """:func:`connect` for the length of a ``with`` block."""
    connection = connect(params, application=application, actor=actor)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """One transaction on an autocommit connection: committed whole, or rolled back whole.

    On a connection that is not in autocommit, which is in somebody else's transaction, a savepoint.
    """
    begin, end, undo = "BEGIN", "COMMIT", "ROLLBACK"
    if not connection.autocommit:
        begin, end = "SAVEPOINT skinspire", "RELEASE SAVEPOINT skinspire"
        undo = "ROLLBACK TO SAVEPOINT skinspire"
    execute(connection, begin)
    try:
        yield
    except BaseException:
        with suppress(StatementError):  # a lost connection has rolled back by itself
            execute(connection, undo)
        raise
    execute(connection, end)


def execute(connection: Connection, statement: Statement, args: Sequence[Any] | None = None) -> int:
    """Run one statement; the number of rows it touched.

    Raises:
        StatementError: the server refused it; ``pgcode`` is kept on the error's cause.
    """
    with _executed(connection, statement, args) as cursor:
        return int(cursor.rowcount)


def fetch_all(
    connection: Connection, statement: Statement, args: Sequence[Any] | None = None
) -> list[tuple[Any, ...]]:
    """Every row of a query. Raises StatementError."""
    with _executed(connection, statement, args) as cursor:
        return list(cursor.fetchall())


def fetch_row(
    connection: Connection, statement: Statement, args: Sequence[Any] | None = None
) -> tuple[Any, ...] | None:
    """The first row of a query, or None. Raises StatementError."""
    rows = fetch_all(connection, statement, args)
    return rows[0] if rows else None


def fetch_value(
    connection: Connection, statement: Statement, args: Sequence[Any] | None = None
) -> Any:
    """The first column of the first row, or None. Raises StatementError."""
    row = fetch_row(connection, statement, args)
    return row[0] if row else None


@contextmanager
def _executed(
    connection: Connection, statement: Statement, args: Sequence[Any] | None
) -> Iterator[Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, args)
            yield cursor
    except psycopg2.Error as error:  # InterfaceError, too: the connection was lost before
        full = "out of shared memory" in str(error)
        hint = "That server needs a larger max_locks_per_transaction." if full else ""
        raise StatementError(first_line(error), hint=hint) from error


def fetch_all_polled(
    connection: Connection, statement: Statement, poll: Poll
) -> list[tuple[Any, ...]]:
    """A long query or command that a cancel or a signal can interrupt.

    psycopg2 waits inside C, where neither our cancel flag nor a Python signal handler is heard,
    so the statement runs in a thread and this one stays awake.
    """
    outcome: list[Any] = []

    def work() -> None:
        try:
            with _executed(connection, statement, None) as cursor:
                outcome.append(cursor.fetchall() if cursor.description else [])
        except StatementError as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            poll()
    except BaseException:
        connection.cancel()
        thread.join()
        raise
    if isinstance(outcome[0], StatementError):
        raise outcome[0]
    return list(outcome[0])
