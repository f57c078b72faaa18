"""Swap a replaced database back; what it displaces is kept in turn, so an undo can be undone."""

from __future__ import annotations

from dataclasses import dataclass

from dbops.exceptions import NothingToUndoError, StampError
from dbops.operations.context import OperationContext
from dbops.operations.defuse import defuse
from dbops.operations.guards import inspect_endpoint
from dbops.postgres.connection import Connection, session
from dbops.postgres.databases import find_kept, scratch_name
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp
from dbops.postgres.swap import swap_databases


@dataclass(frozen=True)
class UndoRequest:
    """Whose replaced database to put back."""

    database: ConnectionParams
    environment: str
    operation: str
    """Id of the operation to undo."""
    over: tuple[str, ...] = ()
    """Patterns of tables whose rows mean nothing any more: sessions."""


@dataclass(frozen=True)
class UndoResult:
    """What stands in the target now, and what it displaced."""

    database: str
    undone: str
    previous: str | None
    outage_ms: float


def undo_operation(request: UndoRequest, context: OperationContext) -> UndoResult:
    """Put the kept database back in its place.

    Raises:
        NothingToUndoError: what it replaced is not kept.
        StampError: the kept one belongs to another environment. What stands in the target now is
            not asked: it is what the undo is to get rid of.
    """
    target = request.database.database
    endpoint = inspect_endpoint(request.database, request.environment)
    kept = find_kept(request.database, request.operation)
    if kept is None:
        raise NothingToUndoError(f"No replaced database of {request.environment} is kept.")
    with session(request.database.with_database(kept.name)) as connection:
        _require_stamp(connection, request, kept.name)
        defuse(connection, request.over, context)
    context.step("swap")
    previous = None
    if endpoint.database:
        previous = scratch_name(target, "previous", context.operation_id)
    context.begin_commit()
    outage = swap_databases(request.database, incoming=kept.name, target=target, previous=previous)
    return UndoResult(target, request.operation, previous, round(outage, 1))


def _require_stamp(connection: Connection, request: UndoRequest, name: str) -> None:
    stamp = read_stamp(connection)
    if stamp not in (None, request.environment):
        raise StampError(f"{name} is stamped {stamp}, not {request.environment}.")
