"""Empty what means something in its own environment only: sessions, tokens, jobs about to run.

A copy of production that kept its queue would send its mail a second time; one that kept its
sessions would let in whoever was signed in there. Sessions mean something at their own time only,
too: a database that comes back would let in who has been thrown out since.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from dbops.exceptions import PolicyError, PreflightError, StatementError
from dbops.operations.context import OperationContext
from dbops.postgres import catalog
from dbops.postgres.catalog import matches
from dbops.postgres.connection import Connection, execute, fetch_value
from dbops.postgres.stamp import read_stamp, read_unmasked
from dbops.postgres.triggers import history
from dbops.wording import counted


@dataclass(frozen=True)
class Arriving:
    """What is done about rows that come from another environment."""

    defuse: tuple[str, ...] = ()
    """Patterns of tables whose rows mean nothing here."""
    over: tuple[str, ...] = ()
    """Patterns of those whose rows mean nothing any more, wherever they come from."""
    unmasked: str | None = None
    """The protected environment whose rows come as they are; None where none do."""
    protected: tuple[str, ...] = ()
    """Environments whose rows need leave to come as they are."""
    leave: bool = False
    """It was given."""
    by_stamp: bool = False
    """Where they come from only the stamp tells that a dump made elsewhere brings along."""

    def meaningless(self, connection: Connection, environment: str) -> tuple[str, ...]:
        """Patterns of the tables to empty. Asked before the database is stamped anew."""
        if self.by_stamp and read_stamp(connection) in (None, environment):
            return self.over
        return (*self.defuse, *self.over)

    def looked_at(self, connection: Connection, environment: str) -> str | None:
        """What the stamp has to say once a dump of unknown origin is loaded: dumps made with
        pg_dump bring the stamp along of where they were made.

        Raises:
            PolicyError: it was made in a protected environment, or of its rows, without leave.
        """
        stamp = read_stamp(connection)
        came = read_unmasked(connection) or stamp
        if self.unmasked is not None or stamp == environment or came not in self.protected:
            return self.unmasked
        if not self.leave:
            raise PolicyError(
                f"The dump holds unmasked data of {came}, which would arrive in {environment}.",
                hint="If that is what you want: --no-mask",
            )
        return came


def defuse(
    connection: Connection,
    patterns: Sequence[str],
    context: OperationContext,
    keeping: Sequence[str] = (),
    among: Collection[str] | None = None,
) -> dict[str, int]:
    """Empty the tables that match, all at once.

    Args:
        keeping: patterns of tables that hold the target's own rows.
        among: only these ("schema.table"); None for all.

    Returns:
        The rows that went, per table that held any.

    Raises:
        PreflightError: rows of other tables refer to them.
    """
    held: dict[str, int] = {}
    for table in catalog.tables(connection):
        meant = [matches(table.label, it) or matches(table.root, it) for it in (patterns, keeping)]
        if meant == [True, False] and (among is None or {table.label, table.root} & set(among)):
            statement = sql.SQL("SELECT count(*) FROM ONLY {}").format(table.identifier)
            if rows := int(fetch_value(connection, statement)):
                held[table.label] = rows
    if not held:
        return {}
    names = sql.SQL(", ONLY ").join(sql.Identifier(*name.split(".", 1)) for name in held)
    try:
        _empty(connection, held, names)
    except StatementError as error:
        raise PreflightError(
            f"{', '.join(held)} cannot be emptied: {error}.",
            hint="Name the tables that refer to them in DBOPS_DEFUSE, too.",
        ) from error
    told = ", ".join(f"{name} ({rows})" for name, rows in held.items())
    context.log(f"Emptied, as it means nothing here and now: {told}")
    return held


def forget_history(
    connection: Connection, context: OperationContext, environment: str | None = None
) -> None:
    """Empty the row history: what it tells of patients belongs where it was recorded.

    Args:
        environment: whose history may stay; what any other's stamp came with goes. None for none.

    Raises:
        StatementError: the connecting role may not.
    """
    if environment is not None and read_stamp(connection) == environment:
        return
    if rows := history.forget(connection):
        left = counted(rows, "row of row history stays", "rows of row history stay")
        context.log(f"{left} behind, as told of another environment")


def _empty(connection: Connection, held: dict[str, int], names: sql.Composable) -> None:
    # One that refers to another is emptied with it, rows or not; none is emptied unnamed.
    execute(connection, sql.SQL("TRUNCATE ONLY {}").format(names))
