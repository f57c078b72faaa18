"""What retention has to know beside the storage: the policy, what is verified, what is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from dbops import conf, journal
from dbops.backups.retention import RetentionPolicy
from dbops.exceptions import BackupInvalidError, StorageWriteError
from dbops.models import Backup, Operation
from dbops.operations.context import OperationContext
from dbops.operations.retention import PruneRequest, prune_backups


def prune_request(environment: str) -> PruneRequest:
    """The request pruning would run with, "" for every environment; a dry run looks at its plan."""
    rows = Backup.objects.exclude(verified_at=None).values_list("name", "verified_at")
    verified = {name: moment for name, moment in rows if moment}
    failed = Operation.objects.filter(
        kind=Operation.Kind.VERIFY, error_code=BackupInvalidError.code
    )
    return PruneRequest(
        store=conf.backup_store(),
        policy=RetentionPolicy(**settings.DBOPS_RETENTION),
        environment=environment,
        verified=verified,
        damaged=_named_by(failed) - verified.keys(),
        in_use=_in_use,
    )


def _in_use() -> set[str]:
    """What open operations concern; and what was backed up before another one began, for as long
    as a swapped database would be kept."""
    since = timezone.now() - timedelta(days=settings.DBOPS_KEEP_PREVIOUS_DAYS)
    saving = Operation.objects.filter(kind__in=Operation.KEEPING, created_at__gt=since)
    saved = {result.get("saved_as") or "" for result in saving.values_list("result", flat=True)}
    return saved | _named_by(Operation.objects.filter(status__in=Operation.ACTIVE))


def _named_by(operations: QuerySet[Operation]) -> set[str]:
    """The backups that operations concern; a path may point into the storage."""
    found = set()
    for options in operations.values_list("options", flat=True):
        found |= {options.get("name", ""), Path(options.get("path") or "").name}
    return found


def prune(environment: str, context: OperationContext) -> Mapping[str, Any]:
    """Delete what retention does not keep, from the storage and from the catalogue.

    Raises:
        StorageWriteError: the storage refused some; ``result`` holds what was done all the same.
    """
    # The catalogue first: a backup sealed meanwhile is then not taken for one that is gone.
    catalogued = set(Backup.objects.values_list("name", flat=True))
    request = prune_request(environment)
    result = prune_backups(request, context)
    if present := request.store.names():  # a storage without any may not be mounted
        Backup.objects.filter(name__in=catalogued.difference(present)).delete()
    if result.refused:
        refused = "; ".join(f"{name} ({reason})" for name, reason in result.refused.items())
        raise StorageWriteError(
            f"Not deleted: {refused}. Of the others that were to go, {len(result.deleted)} are.",
            hint="Check the rights on the backup storage, then prune again.",
            result=asdict(result),
        )
    return asdict(result)


def set_pinned(name: str, pinned: bool, *, actor: str) -> None:
    """Pin a backup in the storage, or unpin it; the catalogue mirrors it.

    Raises:
        BackupNotFoundError: there is no such backup. StorageWriteError: the storage refuses.
    """
    store = conf.backup_store()
    (store.pin if pinned else store.unpin)(name)
    Backup.objects.filter(name=name).update(pinned=pinned)
    journal.record("pinned" if pinned else "unpinned", actor=actor, backup=name)
