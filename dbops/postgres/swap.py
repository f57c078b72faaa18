"""Putting a finished database in the place of the old one: the only moment anyone notices.

The two renames are one transaction, so that a kill at any instant leaves the old database or the
new one under the name. ``RENAME`` itself takes the lock that makes newcomers wait; refusing
connections first (``ALLOW_CONNECTIONS false``) would have to be committed on its own and a kill
right after it would leave a database nobody can enter
(see ``docs/decisions/0002-swap-without-closing-the-door.md``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2 import sql

from dbops.exceptions import StatementError, SwapError
from dbops.postgres.connection import (
    Connection,
    execute,
    fetch_all,
    fetch_value,
    session,
    transaction,
)
from dbops.postgres.databases import MAINTENANCE
from dbops.postgres.params import ConnectionParams

_POLL_SECONDS = 0.002
_PATIENCE_SECONDS = 5.0
# Of another role's session an ordinary role sees little more than its name; what has no user is
# autovacuum, which the rename ends by itself.
_SESSIONS = """FROM pg_stat_activity
                WHERE datname = %s AND pid <> pg_backend_pid() AND usename IS NOT NULL
                  AND coalesce(backend_type, 'client backend') IN ('client backend', 'walsender')"""


def terminate_sessions(connection: Connection, name: str) -> None:
    """Ask every client of the database to go, all at once, without waiting for any.

    Raises:
        SwapError: a session belongs to a role we may not end; the role is named.
    """
    try:
        fetch_all(connection, f"SELECT pg_terminate_backend(pid) {_SESSIONS}", [name])
    except StatementError as error:
        others = fetch_value(
            connection,
            f"""SELECT string_agg(DISTINCT usename::text, ', ') {_SESSIONS}
                   AND NOT pg_has_role(usesysid, 'MEMBER')""",
            [name],
        )
        raise SwapError(
            f"{name} is in use by {others or 'another role'}, whose sessions we may not end.",
            hint=f"Close those sessions, or: GRANT pg_signal_backend TO CURRENT_ROLE ({error})",
        ) from error


def clear_sessions(connection: Connection, name: str) -> None:
    """Terminate and poll until nobody is left. Raises SwapError after five seconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    terminate_sessions(connection, name)
    while fetch_value(connection, f"SELECT count(*) {_SESSIONS}", [name]):
        if time.monotonic() > deadline:
            raise SwapError(f"Sessions on {name} did not end within {_PATIENCE_SECONDS:.0f} s.")
        time.sleep(_POLL_SECONDS)
        terminate_sessions(connection, name)


@contextmanager
def _keep_clear(params: ConnectionParams, name: str) -> Iterator[None]:
    """While the renames wait, end whoever slipped in between clearing and the rename's lock."""
    done = threading.Event()

    def work() -> None:
        with session(params.with_database(MAINTENANCE)) as connection:
            while not done.wait(_POLL_SECONDS * 5):
                terminate_sessions(connection, name)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def swap_databases(
    params: ConnectionParams, *, incoming: str, target: str, previous: str | None
) -> float:
    """Rename ``target`` to ``previous`` and ``incoming`` to ``target``, in one transaction.

    Args:
        params: any database of the server; the maintenance database is used.
        previous: None where no database named ``target`` exists yet.

    Returns:
        Milliseconds during which ``target`` could not be used.

    Raises:
        SwapError: nothing was renamed.
    """
    with session(params.with_database(MAINTENANCE)) as connection:
        clear_sessions(connection, incoming)
        if previous is None:
            execute(connection, _rename(incoming, target))
            return 0.0
        with _keep_clear(params, target):
            began = time.monotonic()
            clear_sessions(connection, target)
            try:
                with transaction(connection):
                    execute(connection, _rename(target, previous))
                    execute(connection, _rename(incoming, target))
            except StatementError as error:
                # A connection lost at COMMIT does not tell; the names do.
                if _exists(params, incoming):
                    raise SwapError(f"{target} could not be replaced: {error}") from error
            return (time.monotonic() - began) * 1000


def _exists(params: ConnectionParams, name: str) -> bool:
    with session(params.with_database(MAINTENANCE)) as connection:
        return bool(
            fetch_value(connection, "SELECT true FROM pg_database WHERE datname = %s", [name])
        )


def _rename(old: str, new: str) -> sql.Composable:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
        sql.Identifier(old), sql.Identifier(new)
    )
