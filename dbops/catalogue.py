"""The catalogue of backups: what is entered, what was proven, what a file is a copy of."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.utils import timezone

from dbops import conf
from dbops.backups.codec import Meter
from dbops.backups.manifest import Manifest
from dbops.models import Backup


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


def mark_verified(name: str, how: str) -> None:
    """It was proven now, in this way (:class:`~dbops.models.Backup.Verification`)."""
    Backup.objects.filter(name=name).update(verified_at=timezone.now(), verified_how=how)


def mark_damaged(name: str) -> None:
    """It was found not to be what was written: no earlier proof counts any more."""
    Backup.objects.filter(name=name).update(verified_at=None, verified_how="")


def origin_of_a_copy(size: int, chunks: Iterator[bytes]) -> str:
    """The environment of the backup this file is a copy of, whatever it is called now; "" for none
    we know."""
    alike = Backup.objects.filter(size=size, environment__in=settings.DBOPS_PROTECTED)
    if not alike.exists():
        return ""
    meter = Meter()
    for _ in meter.watch(chunks):
        pass
    found = alike.filter(sha256=meter.sha256).first()
    return found.environment if found else ""
