"""Backups that django-dbbackup made before us: no signature, no checksum, but restorable.

They bear its file names and, at most, a ``.metadata`` that names engine and connector. Nothing
vouches for them, so they are restored like any dump made elsewhere: read before they run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dbops.backups.manifest import MAX_BYTES, SUFFIX
from dbops.backups.store import BackupStore

# The extensions of its PostgreSQL connectors, and what compression and encryption append.
NAME = re.compile(r"\.psql(\.bin)?(\.gz)?(?P<encrypted>\.gpg)?\Z")


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
        match = NAME.search(name)
        if match and is_earlier_backup(store, name):
            made = store.storage.get_modified_time(name)
            made = made if made.tzinfo else made.replace(tzinfo=UTC)
            size = store.storage.size(name)
            yield EarlierBackup(name, made, size, match["encrypted"] is not None)


def is_earlier_backup(store: BackupStore, name: str) -> bool:
    """True for a file of django-dbbackup's; false for one of ours whose manifest was damaged or
    taken away, which must not pass for a dump nobody ever signed."""
    if not NAME.search(name) or not store.storage.exists(name):
        return False
    if not store.storage.exists(name + SUFFIX):
        return True
    with store.storage.open(name + SUFFIX) as file:
        data = file.read(MAX_BYTES)
    try:
        content = json.loads(data)
    except ValueError:
        return True
    return isinstance(content, dict) and not {"format", "hmac"} & content.keys()
