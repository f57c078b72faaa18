"""Backups in a Django storage: written whole or not at all, read as a stream.

On a file system: temporary name → fsync → rename → fsync of the directory, manifest last. A remote
storage makes an object visible only once its upload is complete, which gives the same.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from dbops.backups.local import exists_already, write_file
from dbops.backups.manifest import MAX_BYTES, SUFFIX, Manifest, decode_manifest, encode_manifest
from dbops.backups.upload import upload
from dbops.exceptions import (
    BackupInvalidError,
    BackupNotFoundError,
    StorageReadError,
    StorageWriteError,
    UsageError,
)
from dbops.postgres.process import CHUNK

PINNED = ".pinned"
"""Put after a backup's name: the mark that it is never to be deleted."""
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,180}\Z")
EARLIER = re.compile(r"\.psql(\.bin)?(\.gz)?(?P<encrypted>\.gpg)?\Z")
"""What django-dbbackup's PostgreSQL connectors name their files. Ours never bear such a name: one
of ours whose manifest is gone must not pass for a dump that nobody ever signed."""
_TEMPORARY = re.compile(r"^\.(?P<operation>[0-9a-f]{12})\.partial\Z")
_UNSEALED = re.compile(r"-(?P<operation>[0-9a-f]{12})\.dump\.zst(\.age|\.gpg)?\Z")


class Storage(Protocol):
    """The part of django.core.files.storage.Storage used here."""

    def exists(self, name: str) -> bool: ...
    def open(self, name: str, mode: str = "rb") -> Any: ...
    def save(self, name: str, content: Any) -> str: ...
    def delete(self, name: str) -> None: ...
    def listdir(self, path: str) -> tuple[list[str], list[str]]: ...
    def size(self, name: str) -> int: ...
    def get_modified_time(self, name: str) -> datetime: ...


@runtime_checkable
class StreamingStorage(Storage, Protocol):
    """A storage that can do what Django's interface does not offer; ours for S3 does."""

    def read_chunks(self, name: str, size: int) -> Iterator[bytes]: ...
    def unfinished(self) -> list[str]: ...
    def abandon(self, name: str) -> None: ...


@dataclass(frozen=True)
class BackupStore:
    """One storage and the keys its manifests are signed with (the first signs)."""

    storage: Storage
    keys: tuple[bytes, ...]
    directory: Path | None = None
    """Where the storage is a local directory: that one. None for a remote storage."""

    def write(self, name: str, chunks: Iterable[bytes], *, operation: str) -> None:
        """Store the archive under ``name``. It counts only once :meth:`seal` has written its
        manifest.

        Raises:
            StorageWriteError: the storage refuses; nothing of it stays.
        """
        check_name(name)
        with self._telling(StorageWriteError, "written"):
            if self.storage.exists(name + SUFFIX):  # its archive's deletion was interrupted
                raise exists_already(name)
        self._put(name, chunks, operation)

    def _put(self, name: str, chunks: Iterable[bytes], operation: str) -> None:
        with self._telling(StorageWriteError, "written"):
            if self.storage.exists(name):
                raise exists_already(name)
            if self.directory is None:
                self._upload(name, chunks)
            else:
                write_file(self.directory, name, chunks, operation)

    @contextmanager
    def _telling(
        self, kind: type[StorageWriteError | StorageReadError], what_not: str
    ) -> Iterator[None]:
        """An error of the storage as one sentence; what else went wrong tells itself."""
        try:
            yield
        except OSError as error:
            raise kind(
                f"The backup storage cannot be {what_not}: {error.strerror or error}.",
                hint="Check BACKUP_STORAGE_URL and the credentials of the storage."
                if self.directory is None
                else "Check free space and permissions of the backup directory.",
            ) from error

    def _upload(self, name: str, chunks: Iterable[bytes]) -> None:
        try:
            saved = upload(lambda content: self.storage.save(name, content), chunks)
        except BaseException:
            self.forget(name)  # some storages keep what they had received
            raise
        if saved != name:  # renamed, as another of this name came into being meanwhile
            self.storage.delete(saved)
            raise exists_already(name)

    def seal(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the backup exists. Raises StorageWriteError."""
        data = encode_manifest(manifest, self.keys[0])
        # Not by write(): the name of a manifest may be longer than a backup's may.
        self._put(manifest.name + SUFFIX, [data], manifest.operation)

    def read_manifest(self, name: str) -> Manifest:
        """The verified manifest of ``name``.

        Raises:
            BackupNotFoundError: there is no such backup.
            BackupInvalidError: its manifest is damaged or forged.
            StorageReadError: the storage does not let itself be read.
        """
        if not self.exists(name):
            raise self.not_found(name)
        return self._read_manifest(name)

    def _read_manifest(self, name: str) -> Manifest:
        return decode_manifest(self.read_metadata(name), self.keys, name)

    def read_metadata(self, name: str) -> bytes:
        """What lies beside the archive, whoever wrote it.

        Raises:
            BackupNotFoundError: nothing does. BackupInvalidError: far too much.
            StorageReadError: the storage does not let itself be read.
        """
        check_name(name)
        data = bytearray()
        with closing(self._chunks(name + SUFFIX, name)) as chunks:
            for chunk in chunks:
                data += chunk
                if len(data) > MAX_BYTES:
                    raise BackupInvalidError(f"The manifest of {name} is far too large.")
        return bytes(data)

    @contextmanager
    def reading(self, name: str) -> Iterator[Iterator[bytes]]:
        """Chunks of the stored file. They raise BackupNotFoundError and StorageReadError."""
        check_name(name)
        with closing(self._chunks(name, name)) as chunks:
            yield chunks

    def _chunks(self, file_name: str, backup: str) -> Generator[bytes, None, None]:
        with self._telling(StorageReadError, "read"):
            try:
                if isinstance(self.storage, StreamingStorage):
                    yield from self.storage.read_chunks(file_name, CHUNK)
                else:
                    with self.storage.open(file_name) as file:
                        yield from read_chunks(file)
            except FileNotFoundError as error:
                raise _not_found(backup) from error

    def names(self) -> list[str]:
        """Names that have a manifest, valid or not. Raises StorageReadError."""
        entries = self.entries()
        return sorted(
            entry.removesuffix(SUFFIX)
            for entry in entries
            if entry.endswith(SUFFIX) and entry.removesuffix(SUFFIX) in entries
        )

    def entries(self) -> set[str]:
        """Every file in the storage. Raises StorageReadError."""
        with self._telling(StorageReadError, "read"):
            try:
                return set(self.storage.listdir("")[1])
            except FileNotFoundError:  # a directory that comes into being with its first backup
                return set()

    def delete(self, name: str) -> None:
        """Remove a backup; no error where it is gone already.

        Its archive goes first: a backup needs both, so what an interruption leaves is none, but a
        small manifest that says whose it is (:meth:`remnants`).

        Raises:
            StorageWriteError: the storage refuses.
        """
        check_name(name)
        with self._telling(StorageWriteError, "written"):
            self.storage.delete(name)
            self.storage.delete(name + SUFFIX)

    def forget(self, name: str) -> None:
        """Remove an archive that never got its manifest; a sealed one is left alone.

        Called while an error is on its way: a storage that cannot even delete must not hide it.
        """
        with suppress(OSError):
            if not self.storage.exists(name + SUFFIX):
                self.storage.delete(name)

    def leftovers(self) -> dict[str, str]:
        """Files of unfinished backups, archives that never got a manifest among them:
        {file name: operation id}. Raises StorageReadError."""
        names = self.entries()
        found = {name: _origin(name) for name in names if name + SUFFIX not in names}
        if isinstance(self.storage, StreamingStorage):
            with self._telling(StorageReadError, "read"):
                found |= {
                    name: _origin(name.removesuffix(SUFFIX)) for name in self.storage.unfinished()
                }
        return {name: operation for name, operation in found.items() if operation}

    def remove_leftover(self, file_name: str) -> None:
        """Remove one of :meth:`leftovers`; a sealed backup is left alone.

        Raises:
            StorageWriteError: the storage refuses.
        """
        with self._telling(StorageWriteError, "written"):
            if isinstance(self.storage, StreamingStorage):
                self.storage.abandon(file_name)
            if _origin(file_name) and not self.storage.exists(file_name + SUFFIX):
                self.storage.delete(file_name)

    def remnants(self) -> list[Manifest]:
        """Valid manifests without an archive, as a deletion that was interrupted leaves them.
        Raises StorageReadError."""
        entries = self.entries()
        found = []
        for name in sorted(entry.removesuffix(SUFFIX) for entry in entries):
            if name + SUFFIX in entries and name not in entries:
                with suppress(BackupInvalidError, BackupNotFoundError):
                    found.append(self._read_manifest(name))
        return found

    def archive_size(self, name: str) -> int:
        """Bytes of the archive as the storage knows them.

        Raises:
            BackupNotFoundError: there is none. StorageReadError: the storage cannot be read.
        """
        check_name(name)
        with self._telling(StorageReadError, "read"):
            try:
                return self.storage.size(name)
            except FileNotFoundError as error:
                raise _not_found(name) from error

    def free_space(self) -> int | None:
        """Bytes free where the backups lie; None where nobody knows."""
        if self.directory is None:
            return None
        existing = next(it for it in (self.directory, *self.directory.parents) if it.is_dir())
        status = os.statvfs(existing)
        # Some that are no disks (a bucket mounted as a file system) say they have no blocks at all.
        return status.f_bavail * status.f_frsize if status.f_blocks else None

    def written_at(self, name: str) -> datetime:
        """When the storage says the archive was written. Raises as :meth:`archive_size`."""
        check_name(name)
        with self._telling(StorageReadError, "read"):
            try:
                moment = self.storage.get_modified_time(name)
            except FileNotFoundError as error:
                raise _not_found(name) from error
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def pin(self, name: str) -> None:
        """Mark a backup as never to be deleted, in the storage itself: a catalogue can be lost.

        Raises:
            BackupNotFoundError: there is no such backup. BackupInvalidError: it is none of ours.
            StorageReadError, StorageWriteError: the storage refuses.
        """
        operation = self.read_manifest(name).operation
        try:
            self._put(name + PINNED, [b"Not deleted by prune_backups.\n"], operation)
        except StorageWriteError:
            if not self.is_pinned(name):
                raise
        if not self.exists(name):  # deleted while we wrote
            self.unpin(name)
            raise self.not_found(name)

    def unpin(self, name: str) -> None:
        """Take the mark away. Raises as :meth:`pin`."""
        if not self.is_pinned(name) and not self.exists(name):
            raise self.not_found(name)
        with self._telling(StorageWriteError, "written"):
            self.storage.delete(name + PINNED)

    def is_pinned(self, name: str) -> bool:
        """True where the mark lies beside the backup. Raises StorageReadError."""
        return self.exists(name, PINNED)

    def exists(self, name: str, suffix: str = "") -> bool:
        """True where the archive is there, or what ``suffix`` puts beside it.
        Raises StorageReadError."""
        check_name(name)
        with self._telling(StorageReadError, "read"):
            return self.storage.exists(name + suffix)

    def not_found(self, name: str) -> BackupNotFoundError:
        """The error for a name that does not exist, with the nearest that do."""
        near = difflib.get_close_matches(name[:200], self.names(), n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else ""
        return BackupNotFoundError(f"There is no backup named {name[:200]}.", hint=hint)


def _origin(file_name: str) -> str:
    """The id of the operation that made it, or ""."""
    match = _TEMPORARY.match(file_name) or _UNSEALED.search(file_name)
    return match["operation"] if match else ""


def _not_found(name: str) -> BackupNotFoundError:
    return BackupNotFoundError(f"There is no backup named {name}.")


def check_name(name: str) -> None:
    """Only plain file names: no directory, no dot first, nothing a storage would interpret.

    Raises:
        BackupNotFoundError: anything else; such a backup cannot exist.
    """
    if not _NAME.match(name):
        raise BackupNotFoundError(f"There is no backup named {name[:100]!r}.")


def check_new_name(name: str) -> None:
    """The same for a name somebody wishes for a new backup. Raises UsageError."""
    reserved = name.endswith((SUFFIX, PINNED)) or EARLIER.search(name)
    if not _NAME.match(name) or reserved:
        raise UsageError(
            f"{name[:100]!r} is no name for a backup.",
            hint="Letters, digits, dots, dashes and underscores, 180 at most, no directory.",
        )


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """A file as chunks."""
    while chunk := file.read(CHUNK):
        yield chunk
