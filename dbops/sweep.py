"""Clearing up after processes that died: rows, scratch databases, unfinished files."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from dbops import conf, journal
from dbops.exceptions import DbopsError
from dbops.models import Operation
from dbops.postgres.connection import session
from dbops.postgres.databases import (
    MAINTENANCE,
    drop_database,
    operation_of_scratch,
    scratch_databases,
)
from skinspire.environment import ENVIRONMENTS


@dataclass
class Swept:
    """What was found and cleared."""

    interrupted: list[str] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)


def sweep(*, actor: str) -> Swept:
    """Mark lost operations as interrupted and remove what they and expired ones left.

    Only what bears the id of an operation recorded here, and no longer active, is removed: another
    installation may use the same server.
    """
    swept = Swept(interrupted=mark_lost_operations(actor=actor))
    for environment in ENVIRONMENTS:
        try:
            swept.databases += _sweep_databases(environment)
        except DbopsError as error:
            swept.unreachable.append(f"{environment}: {error}")
    store = conf.backup_store()
    for name, operation in store.leftovers().items():
        if _is_over(operation):
            store.remove_leftover(name)
            swept.files.append(name)
    if swept.databases or swept.files:
        journal.record("swept", actor=actor, databases=swept.databases, files=swept.files)
    return swept


def mark_lost_operations(*, actor: str) -> list[str]:
    """Running operations whose process is gone become interrupted; their ids."""
    lost = []
    for operation in Operation.objects.filter(status=Operation.Status.RUNNING):
        if not _is_lost(operation):
            continue
        # The filter again: it may have ended between the look and now.
        changed = Operation.objects.filter(
            pk=operation.pk, status=Operation.Status.RUNNING
        ).update(
            status=Operation.Status.INTERRUPTED, finished_at=timezone.now(),
            error_code="interrupted",
            error="Its process died. The target holds the old database or the new one, whole.",
            hint="See what stands there, then run it again if needed.",
        )  # fmt: skip
        if changed:
            lost.append(operation.pk)
            journal.record("interrupted", actor=actor, operation=operation.pk)
    return lost


def _is_lost(operation: Operation) -> bool:
    if operation.host == socket.gethostname():
        return not _is_alive(operation)
    beat = operation.heartbeat_at or operation.created_at
    return timezone.now() - beat > Operation.LEASE


def _is_alive(operation: Operation) -> bool:
    """True where the very process that took it still runs; a reused pid is another process."""
    try:
        process = psutil.Process(operation.pid)
        same = abs(process.create_time() - (operation.pid_started or 0)) < 1
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_over(operation_id: str) -> bool:
    return Operation.objects.filter(~Q(status__in=Operation.ACTIVE), pk=operation_id).exists()


def _is_expired(operation_id: str) -> bool:
    limit = timezone.now() - timedelta(days=settings.DBOPS_KEEP_PREVIOUS_DAYS)
    return Operation.objects.filter(pk=operation_id, finished_at__lt=limit).exists()


def _sweep_databases(environment: str) -> list[str]:
    removed = []
    with session(conf.database_params(environment).with_database(MAINTENANCE)) as control:
        for name in scratch_databases(control):
            role, operation = operation_of_scratch(name) or ("", "")
            ended = _is_over(operation) if role == "incoming" else _is_expired(operation)
            if ended:
                drop_database(control, name)
                removed.append(name)
    return removed
