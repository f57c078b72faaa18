"""Clearing up after processes that died: rows, scratch databases, unfinished files."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, field
from datetime import timedelta

import psutil
from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django_tasks import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from dbops import conf, journal
from dbops.catalogue import record_backup
from dbops.exceptions import (
    DbopsError,
    LockedError,
    StatementError,
    StorageReadError,
    StorageWriteError,
)
from dbops.kept import kept_by_a_failed
from dbops.models import Backup, Operation
from dbops.operations.backup import list_backups
from dbops.postgres.connection import Connection, session
from dbops.postgres.databases import (
    MAINTENANCE,
    drop_database,
    operation_of_scratch,
    scratch_databases,
    scratch_name,
)
from dbops.postgres.locks import database_lock
from dbops.postgres.params import ConnectionParams
from skinspire.environment import ENVIRONMENTS


@dataclass
class Swept:
    """What was found and cleared."""

    interrupted: list[str] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    catalogued: list[str] = field(default_factory=list)
    """Backups found in the storage that the catalogue did not know."""
    uncatalogued: list[str] = field(default_factory=list)
    """Backups of the catalogue that are no longer in the storage, or no longer valid."""
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
    try:
        swept.files = _sweep_storage()
        swept.catalogued, swept.uncatalogued = reconcile_catalogue()
    except (StorageReadError, StorageWriteError) as error:
        swept.unreachable.append(f"backups: {error}")
    done = {key: names for key, names in asdict(swept).items() if names and key != "unreachable"}
    if done:
        journal.record("swept", actor=actor, **done)
    return swept


def mark_lost_operations(*, actor: str) -> list[str]:
    """Active operations that nobody runs, and nobody will, become interrupted; their ids."""
    waiting = _awaited_by_a_task()
    lost = []
    for operation in Operation.objects.filter(status__in=Operation.ACTIVE):
        queued = operation.status == Operation.Status.QUEUED
        if not (_is_forgotten(operation, waiting) if queued else _is_lost(operation)):
            continue
        # The filter again: it may have moved on between the look and now.
        changed = Operation.objects.filter(pk=operation.pk, status=operation.status).update(
            status=Operation.Status.INTERRUPTED, finished_at=timezone.now(),
            error_code="interrupted",
            error=_last_words(operation),
            hint="See what stands there, then run it again if needed.",
        )  # fmt: skip
        if changed:
            lost.append(operation.pk)
            journal.record("interrupted", actor=actor, operation=operation.pk)
    return lost


_STAYS: dict[str, str] = {
    Operation.Kind.INIT: "What it had made by then stays; init_db makes the rest.",
    Operation.Kind.MAINTAIN: "What it had maintained by then stays so.",
    Operation.Kind.PRUNE: "What it had deleted by then is gone.",
}


def _last_words(operation: Operation) -> str:
    if kept := kept_by_a_failed(operation):
        return f"Its process died after the swap: the new database stands, {kept} is kept."
    if operation.status == Operation.Status.RUNNING:
        if operation.options.get("way") == "in_place":
            return "Its process died. Migrations that were done by then stay."
        if operation.kind in _STAYS:
            return f"Its process died. {_STAYS[operation.kind]}"
        if _is_one_transaction(operation):
            # It may have died between the commit and the record of it.
            return "Its process died. It is one transaction: all of it is done, or nothing."
    return "Its process died. The target is as it was."


def _is_one_transaction(operation: Operation) -> bool:
    """True where it changes the database where it stands."""
    options = operation.options
    if operation.kind == Operation.Kind.RESTORE:
        return any(options.get(it) for it in ("tables", "schemas", "in_place"))
    if operation.kind == Operation.Kind.TRIGGERS:
        return not options.get("test")
    migrates = operation.kind in (Operation.Kind.MIGRATE, Operation.Kind.ROLLBACK)
    return migrates and options.get("way") != "aside" and not options.get("only_rehearse")


def _awaited_by_a_task() -> set[str]:
    """Operations that a worker will still take, or is just taking."""
    recently = timezone.now() - Operation.LEASE
    tasks = DBTaskResult.objects.filter(
        Q(status=TaskResultStatus.READY)
        | Q(status=TaskResultStatus.RUNNING, started_at__gt=recently)
    )
    return {argument for task in tasks for argument in task.args_kwargs["args"]}


def _is_forgotten(operation: Operation, awaited: set[str]) -> bool:
    """Queued, but whoever was to run it died before it began."""
    old = timezone.now() - operation.created_at > Operation.LEASE
    return old and operation.pk not in awaited


def _is_lost(operation: Operation) -> bool:
    if operation.host == socket.gethostname() and not _is_alive(operation):
        return True
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
    params = conf.database_params(environment)
    removed = []
    with session(params.with_database(MAINTENANCE)) as control:
        for name in scratch_databases(control):
            role, operation = operation_of_scratch(name) or ("", "")
            built_for = _database_of(operation) or params.database
            if name != scratch_name(built_for, role, operation):
                continue  # of another environment, or of another installation
            ended = _is_over(operation) if role == "incoming" else _is_expired(operation)
            if ended and _drop_unless_held(control, params.with_database(built_for), name):
                removed.append(name)
    return removed


def _sweep_storage() -> list[str]:
    store = conf.backup_store()
    over = [name for name, operation in store.leftovers().items() if _is_over(operation)]
    for name in over:
        store.remove_leftover(name)
    return over


def _database_of(operation_id: str) -> str | None:
    """The new database an operation was to make; None for one that concerns its environment's."""
    operation = Operation.objects.filter(pk=operation_id).first()
    return operation.options.get("into") if operation else None


def _drop_unless_held(control: Connection, params: ConnectionParams, name: str) -> bool:
    """Only under the target's lock: a process that only seemed dead may still be building."""
    try:
        with database_lock(params, operation="sweep", exclusive=True):
            drop_database(control, name)
    except (LockedError, StatementError):  # held, or not ours to drop: the others still are
        return False
    return True


def reconcile_catalogue() -> tuple[list[str], list[str]]:
    """Bring the catalogue in line with the manifests in the storage: (entered, removed) names."""
    # The catalogue first: a backup sealed between the two looks is then found, not missed.
    known = set(Backup.objects.values_list("name", flat=True))
    store = conf.backup_store()
    found = {manifest.name: manifest for manifest in list_backups(store)}
    entered = sorted(found.keys() - known)
    for name in entered:
        record_backup(found[name])
    removed = sorted(known - found.keys())
    Backup.objects.filter(name__in=removed).delete()
    pinned = {name for name in found if store.is_pinned(name)}
    for backup in Backup.objects.filter(name__in=known):
        if backup.pinned != (backup.name in pinned):
            Backup.objects.filter(pk=backup.pk).update(pinned=not backup.pinned)
    return entered, removed
