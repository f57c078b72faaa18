"""Backups that django-dbbackup made before us: no signature, no checksum, but restorable.

They bear its file names and, at most, a ``.metadata`` that names engine and connector. Nothing
vouches for them, so they are restored like any dump made elsewhere: read before they run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbops.backups.store import EARLIER, BackupStore
from dbops.exceptions import BackupNotFoundError


@dataclass(frozen=True)
class EarlierBackup:
    """One file, as the storage knows it."""

    name: str
    created_at: datetime
    """When the storage says it was written."""
    size: int
    encrypted: bool

    def to_json(self) -> dict[str, Any]:
        """One element of ``listbackups --json``."""
        return {
            "name": self.name,
            "environment": None,
            "created_at": self.created_at.isoformat(),
            "size": self.size,
            "verified_at": None,
            "encrypted": self.encrypted,
            "pinned": False,
            "signed": False,
        }


def earlier_backups(store: BackupStore) -> list[EarlierBackup]:
    """What django-dbbackup left in the storage, newest first."""
    found = sorted(_look(store), key=lambda backup: backup.created_at, reverse=True)
    return list(found)


def _look(store: BackupStore) -> Iterator[EarlierBackup]:
    for name in store.entries():
        match = EARLIER.search(name)
        if match and is_earlier_backup(store, name):
            encrypted = match["encrypted"] is not None
            yield EarlierBackup(name, store.written_at(name), store.archive_size(name), encrypted)


def is_earlier_backup(store: BackupStore, name: str) -> bool:
    """True for a file of django-dbbackup's; false for one whose ``.metadata`` is a manifest of
    ours, whole or not. Raises StorageReadError."""
    if not EARLIER.search(name) or not store.exists(name):
        return False
    try:
        content = json.loads(store.read_metadata(name))
    except (ValueError, RecursionError, BackupNotFoundError):
        return True
    return isinstance(content, dict) and not {"format", "hmac"} & content.keys()
