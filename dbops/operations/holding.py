"""Tables that stay as they are while they are read: locked first, and only then looked at.

A snapshot does not protect from ``TRUNCATE`` or from ``ALTER TABLE … TYPE``: who takes it first and
then waits for somebody who does that sees an empty table, or values under other types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg2

from dbops.exceptions import StatementError
from dbops.operations.context import OperationContext
from dbops.postgres import catalog
from dbops.postgres.connection import Connection, apply_settings, execute, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.pump import READING
from dbops.postgres.shapes import TableFacts, table_facts
from dbops.postgres.snapshot import Snapshot, exported_snapshot, lock_tables


@dataclass(frozen=True)
class Held:
    """A snapshot, and what it sees: nobody can alter, empty or drop it."""

    snapshot: Snapshot
    tables: Mapping[str, TableFacts]


@contextmanager
def held_snapshot(
    params: ConnectionParams, environment: str, context: OperationContext
) -> Iterator[Held]:
    """All tables locked in ACCESS SHARE, then a snapshot, which takes the locks over.

    Raises:
        StatementError: somebody else has locked a table, which is named; or makes tables just now.
    """
    with session(params, application=context.application) as first:
        execute(first, "BEGIN")
        before = _hold(first, params, environment, "ACCESS SHARE", context)
        with exported_snapshot(params, application=context.application) as snapshot:
            _hold(snapshot.connection, params, environment, "ACCESS SHARE", context)
            first.close()
            tables = table_facts(snapshot.connection)
            if new := sorted(tables.keys() - before):
                raise StatementError(
                    f"{', '.join(new[:3])} was made in {environment} at this very moment.",
                    hint="Run it again.",
                )
            yield Held(snapshot, tables)


@contextmanager
def written_by_nobody(
    params: ConnectionParams, environment: str, patterns: tuple[str, ...], context: OperationContext
) -> Iterator[None]:
    """Keep everybody from writing to the tables that match: what they wrote would be lost.

    Raises:
        StatementError: somebody writes to one and does not end; or has locked it.
    """
    with session(params, application=context.application) as connection:
        execute(connection, "BEGIN")
        _hold(connection, params, environment, "SHARE", context, patterns)
        context.log(f"Nobody can write to the tables of {environment} whose rows stay, meanwhile")
        yield
        with suppress(psycopg2.Error):  # the swap has ended it
            connection.rollback()


def _hold(
    connection: Connection,
    params: ConnectionParams,
    environment: str,
    mode: str,
    context: OperationContext,
    patterns: tuple[str, ...] = ("*",),
) -> set[str]:
    """The tables that are locked now. Nothing of them is asked before: their size, too, is not
    told before who has locked them lets go."""
    apply_settings(connection, READING)
    wanted = [
        table
        for table, root in catalog.table_names(connection)
        if catalog.matches(table, patterns) or catalog.matches(root, patterns)
    ]
    try:
        lock_tables(connection, wanted, context.check_cancelled, mode)
    except StatementError as error:
        if "lock timeout" not in str(error):
            raise
        with session(params) as other:
            locked = catalog.exclusively_locked(other)
        raise StatementError(
            f"{', '.join(locked) or 'A table'} of {environment} is locked by another session: "
            f"{error}.",
            hint="Wait for who holds it, then run it again.",
        ) from error
    return set(wanted)
