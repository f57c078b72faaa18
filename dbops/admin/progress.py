"""How far an operation is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.timezone import localtime

from dbops.models import Operation, OperationLog

UNDOABLE = (Operation.Kind.RESTORE, Operation.Kind.COPY)
_PATIENCE = timedelta(seconds=5)


def progress_json(operation: Operation, after: int) -> dict[str, Any]:
    """What the page's script shows; ``after`` is the last line it has."""
    lines = operation.log_lines.filter(pk__gt=after)
    return {
        "status": operation.status,
        "active": operation.is_active,
        "step": operation.step,
        "progress": operation.progress,
        "hint": waiting_hint(operation),
        "lines": [_line_json(line) for line in lines],
    }


def _line_json(line: OperationLog) -> dict[str, Any]:
    return {
        "id": line.pk,
        "kind": line.kind,
        "time": f"{localtime(line.at):%H:%M:%S}",
        "text": line.text,
    }


def waiting_hint(operation: Operation) -> str:
    """Why nothing moves, and the next command; "" while things are well."""
    now = timezone.now()
    if operation.status == Operation.Status.QUEUED and now - operation.created_at > _PATIENCE:
        return "No worker has taken it yet. Start one: python manage.py db_worker"
    beat = operation.heartbeat_at
    if operation.status == Operation.Status.RUNNING and beat and now - beat > Operation.LEASE:
        return "Its worker has fallen silent. Clear up after it: python manage.py operations sweep"
    return ""


def can_undo(operation: Operation) -> bool:
    """True while the database it replaced is the one that is kept."""
    if operation.kind not in UNDOABLE or not operation.result.get("previous"):
        return False
    later = Operation.objects.filter(
        kind__in=Operation.REPLACING, target=operation.target,
        status=Operation.Status.SUCCEEDED, finished_at__gt=operation.finished_at,
    )  # fmt: skip
    return operation.status == Operation.Status.SUCCEEDED and not later.exists()
