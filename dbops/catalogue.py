"""The catalogue of backups: what is entered, what was proven, what a file is a copy of."""

from __future__ import annotations

from collections.abc import Iterator

import humanize
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from dbops import conf
from dbops.backups.codec import Meter
from dbops.backups.manifest import Manifest
from dbops.exceptions import BackupInvalidError, BackupNotFoundError
from dbops.models import Backup, Operation

_FIRST_GUESS = {"template": 700e6, "stream": 80e6, "dump": 50e6}
"""Bytes a second, until a copy has shown how fast this machine is (benchmarks/copy.py)."""


def expected_seconds(source: str, target: str, strategy: str, size: int) -> float:
    """How long a copy of ``size`` bytes will take: as the last one of its kind did."""
    last = Operation.objects.filter(
        kind=Operation.Kind.COPY, status=Operation.Status.SUCCEEDED, source=source, target=target,
        result__strategy=strategy, finished_at__isnull=False, started_at__isnull=False,
    ).order_by("-finished_at").first()  # fmt: skip
    if last is None or not last.result.get("bytes"):
        return 0.5 + size / _FIRST_GUESS[strategy]
    assert last.finished_at is not None
    assert last.started_at is not None
    took = (last.finished_at - last.started_at).total_seconds()
    return took * max(1, size) / float(last.result["bytes"])


def record_backup(manifest: Manifest) -> Backup:
    """Enter a backup in the catalogue."""
    content = manifest.content
    backup, _ = Backup.objects.update_or_create(
        name=manifest.name,
        defaults={
            "environment": manifest.environment,
            "created_at": manifest.created_at,
            "size": manifest.size,
            "sha256": manifest.sha256,
            "unmasked": manifest.unmasked,
            "rows": content.rows,
            "tables": len(content.tables),
            "server_version": manifest.server_version,
            "encrypted": manifest.encrypted,
            "partial": bool(manifest.excluded),
            "pinned": conf.backup_store().is_pinned(manifest.name),
            "actor": manifest.actor,
            "operation": manifest.operation,
        },
    )
    return backup


def size_of_the_last(environment: str) -> int:
    """Bytes of its latest whole backup; 0 where there is none."""
    last = Backup.objects.filter(environment=environment, partial=False).first()
    return last.size if last else 0


def latest_backup(environment: str, server_name: str = "") -> str:
    """The newest whole backup of an environment. Raises BackupNotFoundError."""
    prefix = f"{server_name}-" if server_name else ""
    latest = Backup.objects.filter(
        environment=environment, partial=False, name__startswith=prefix
    ).first()
    if latest is None:
        raise BackupNotFoundError(f"There is no backup of {environment}.")
    return latest.name


def last_backup(environment: str) -> Backup | None:
    """The newest whole backup of an environment."""
    return Backup.objects.filter(environment=environment, partial=False).first()


def told_of(backup: Backup | None) -> str:
    """When it was made, how large it is, how it was last proven."""
    if backup is None:
        return "none"
    made = humanize.naturaltime(backup.created_at)
    proof = backup.get_verified_how_display() if backup.verified_at else "never verified"
    return f"{made}, {humanize.naturalsize(backup.size, binary=True)}, {proof}"


def found_damaged(backup: Backup) -> bool:
    """True where a verification found it damaged, and none since then found it right."""
    return (
        backup.verified_at is None
        and Operation.objects.filter(
            kind=Operation.Kind.VERIFY,
            error_code=BackupInvalidError.code,
            options__name=backup.name,
        ).exists()
    )


def mark_verified(name: str, how: str) -> None:
    """It was proven now, in this way (:class:`~dbops.models.Backup.Verification`)."""
    Backup.objects.filter(name=name).update(verified_at=timezone.now(), verified_how=how)


def mark_damaged(name: str) -> None:
    """It was found not to be what was written: no earlier proof counts any more."""
    Backup.objects.filter(name=name).update(verified_at=None, verified_how="")


def origin_of_a_copy(size: int, chunks: Iterator[bytes]) -> str:
    """The environment of the backup this file is a copy of, whatever it is called now; "" for none
    we know."""
    protected = settings.DBOPS_PROTECTED
    alike = Backup.objects.filter(
        Q(environment__in=protected) | Q(unmasked__in=protected), size=size
    )
    if not alike.exists():
        return ""
    meter = Meter()
    for _ in meter.watch(chunks):
        pass
    found = alike.filter(sha256=meter.sha256).first()
    return found.origin if found else ""
