"""Backups taken along as a file. There is no link that could be handed on: each is asked for by a
request that has to prove who sends it, and is written down, refused or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dbops import conf, journal, policy
from dbops.backups.codec import Meter
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore
from dbops.exceptions import BackupInvalidError, DbopsError, PolicyError


@dataclass(frozen=True)
class Download:
    """The stored file, to be sent as it is."""

    manifest: Manifest
    chunks: Iterator[bytes]
    """They raise BackupInvalidError before the last one, where the file is not what was sealed: so
    it never arrives whole."""


def open_download(name: str, *, actor: str) -> Download:
    """Begin one.

    Raises:
        BackupNotFoundError, BackupInvalidError, StorageReadError: it cannot be read.
        PolicyError: it would carry rows of a protected environment readable for everybody.
    """
    store = conf.backup_store()
    try:
        manifest = store.read_manifest(name)
        _check(store, manifest)
    except DbopsError as error:
        refuse(name, actor=actor, why=error.code)
        raise
    journal.record("downloaded", actor=actor, backup=name)
    return Download(manifest, _chunks(store, manifest))


def refuse(name: str, *, actor: str, why: str) -> None:
    """Write down that somebody was not given it."""
    journal.record("download_refused", actor=actor, backup=name, error=why)


def _check(store: BackupStore, manifest: Manifest) -> None:
    if policy.is_protected(manifest.origin) and not manifest.encrypted:
        raise PolicyError(
            f"It holds rows of {manifest.origin}, and is not encrypted.",
            hint="Set BACKUP_RECIPIENTS; backups made from then on may be taken along.",
        )
    if store.directory is not None and (store.directory / manifest.name).is_symlink():
        raise BackupInvalidError(f"{manifest.name} is a link to another file.")
    if store.archive_size(manifest.name) != manifest.size:
        raise BackupInvalidError(f"{manifest.name} is not as long as it was when it was sealed.")


def _chunks(store: BackupStore, manifest: Manifest) -> Iterator[bytes]:
    """Each is held back until the next one is there, the last until all is known to be right."""
    meter, held = Meter(), b""
    with store.reading(manifest.name) as chunks:
        for chunk in meter.watch(chunks):
            yield held
            held = chunk
    if meter.sha256 != manifest.sha256:
        raise BackupInvalidError(f"{manifest.name} is not what was sealed.")
    yield held
