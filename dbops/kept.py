"""Which replaced databases are kept: told by the servers, not by how an operation's row ended.

A process can die between the swap and its record; what it replaced is there all the same, and can
be put back.
"""

from __future__ import annotations

from django.db.models import Q

from dbops import conf
from dbops.exceptions import DbopsError, NothingToUndoError
from dbops.models import Operation
from dbops.postgres.databases import find_kept

_LOOK_BACK = 50
"""Operations; each replacement drops what the one before it on that target had kept."""


def kept_database(operation: Operation) -> str | None:
    """The database this operation replaced, while it is kept. Raises ConnectionFailedError."""
    if operation.kind not in Operation.KEEPING:
        return None
    kept = find_kept(conf.database_params(operation.target), operation.id)
    return kept.name if kept else None


def kept_by_a_failed(operation: Operation) -> str | None:
    """The same for an operation that just failed, whose server may not answer any more."""
    try:
        return kept_database(operation)
    except DbopsError:
        return None


def replaced_triggers(operation: Operation) -> int:
    """How many triggers gave way to ours in this operation and can come back; 0 for none."""
    replaced = (operation.result or {}).get("replaced") or {}
    rolled_back = operation.status in (Operation.Status.FAILED, Operation.Status.CANCELLED)
    if operation.kind != Operation.Kind.TRIGGERS or rolled_back or not replaced.get("triggers"):
        return 0
    undone = Operation.objects.filter(
        kind=Operation.Kind.UNDO,
        status=Operation.Status.SUCCEEDED,
        options__operation=operation.id,
    )
    return 0 if undone.exists() else len(replaced["triggers"])


def changed_in_place(operation: Operation) -> bool:
    """True where it changed a database as it stood, so that nothing can be swapped back. Whoever
    passed it over would put back what an older operation had replaced."""
    result = operation.result or {}
    if operation.kind == Operation.Kind.RESTORE:
        ended = operation.status in (Operation.Status.FAILED, Operation.Status.CANCELLED)
        rolled_back = ended and result.get("outcome") != "unknown"
        return bool(result.get("saved_as")) and not rolled_back
    if operation.kind == Operation.Kind.UNDO:
        return "triggers" in result  # put back where they were; the database is the same
    migrates = operation.kind in (Operation.Kind.MIGRATE, Operation.Kind.ROLLBACK)
    stands = result.get("way") in ("together", "in place") and result.get("migrations")
    return migrates and bool(stands or result.get("outcome") in ("left", "unknown"))


def latest_replacement(environment: str = "") -> Operation:
    """The latest operation whose replaced database is kept, or whose replaced triggers are; or a
    later one that changed a database in place, of which nothing is.

    Args:
        environment: only those on it; "" for all.

    Raises:
        NothingToUndoError: there is none.
    """
    replacing = Q(kind__in=Operation.KEEPING)
    replacing |= Q(kind=Operation.Kind.TRIGGERS, options__replace_legacy=True)
    ended = Operation.objects.exclude(status__in=Operation.ACTIVE).filter(replacing)
    if environment:
        ended = ended.filter(target=environment)
    for operation in ended.order_by("-started_at")[:_LOOK_BACK]:
        if changed_in_place(operation) or replaced_triggers(operation):
            return operation
        if kept_by_a_failed(operation):
            return operation
    where = f" of {environment}" if environment else ""
    raise NothingToUndoError(f"Nothing that was replaced{where} is kept.")
