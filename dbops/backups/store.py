"""Backups in a Django storage: written whole or not at all, read as a stream.

On a file system: temporary name → fsync → rename → fsync of the directory, manifest last. A remote
storage makes an object visible only once its upload is complete, which gives the same.
"""

from __future__ import annotations

import errno
import os
import queue
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from dbops.backups.manifest import MAX_BYTES, SUFFIX, Manifest, decode_manifest, encode_manifest
from dbops.exceptions import BackupInvalidError, BackupNotFoundError, StorageWriteError, UsageError
from dbops.postgres.process import CHUNK

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,180}\Z")
_TEMPORARY = re.compile(r"^\.(?P<operation>[0-9a-f]{12})\.partial\Z")
_UNSEALED = re.compile(r"-(?P<operation>[0-9a-f]{12})\.dump\.zst\Z")


class Storage(Protocol):
    """The part of django.core.files.storage.Storage used here."""

    def exists(self, name: str) -> bool: ...
    def open(self, name: str, mode: str = "rb") -> Any: ...
    def save(self, name: str, content: Any) -> str: ...
    def delete(self, name: str) -> None: ...
    def listdir(self, path: str) -> tuple[list[str], list[str]]: ...


class _Upload:
    """The file object a remote storage reads while the dump writes."""

    closed = False

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=8)
        self._rest = b""
        self._ended = False

    def put(self, item: bytes | BaseException | None, timeout: float) -> None:
        """Raises queue.Full after ``timeout`` seconds."""
        self._queue.put(item, timeout=timeout)

    def read(self, size: int = -1) -> bytes:
        while not self._ended and (size < 0 or len(self._rest) < size):
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise StorageWriteError("The upload was abandoned.") from item
            self._ended = item is None
            self._rest += item or b""
        cut = len(self._rest) if size < 0 else size
        taken, self._rest = self._rest[:cut], self._rest[cut:]
        return taken

    def chunks(self, chunk_size: int = CHUNK) -> Iterator[bytes]:
        while chunk := self.read(chunk_size):
            yield chunk


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
        self._put(name, chunks, operation)

    def _put(self, name: str, chunks: Iterable[bytes], operation: str) -> None:
        if self.storage.exists(name):
            raise StorageWriteError(f"A backup named {name} exists already.")
        try:
            if self.directory is None:
                self._upload(name, chunks)
            else:
                _write_file(self.directory, name, chunks, operation)
        except OSError as error:
            raise StorageWriteError(
                f"The backup storage cannot be written: {error.strerror or error}.",
                hint="Check free space and permissions of the backup directory.",
            ) from error

    def _upload(self, name: str, chunks: Iterable[bytes]) -> None:
        upload = _Upload()
        failure: list[BaseException] = []

        def work() -> None:
            try:
                self.storage.save(name, upload)
            except BaseException as error:  # carried to the caller's thread below
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            for chunk in chunks:
                _offer(upload, chunk, thread)
            _offer(upload, None, thread)
        except BaseException as error:
            _offer(upload, error, thread)
            thread.join()
            self.forget(name)  # some storages keep what they had received
            raise
        thread.join()
        if failure:
            self.forget(name)
            raise StorageWriteError(f"The backup storage failed: {failure[0]}") from failure[0]

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
        """
        check_name(name)
        if not self.storage.exists(name + SUFFIX) or not self.storage.exists(name):
            raise BackupNotFoundError(f"There is no backup named {name}.")
        with self.storage.open(name + SUFFIX) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BackupInvalidError(f"The manifest of {name} is far too large.")
        return decode_manifest(data, self.keys, name)

    @contextmanager
    def reading(self, name: str) -> Iterator[Iterator[bytes]]:
        """Chunks of the stored file."""
        check_name(name)
        try:
            file = self.storage.open(name)
        except FileNotFoundError as error:
            raise BackupNotFoundError(f"There is no backup named {name}.") from error
        with file:
            yield read_chunks(file)

    def names(self) -> list[str]:
        """Names that have a manifest, valid or not."""
        try:
            entries = self.storage.listdir("")[1]
        except FileNotFoundError:
            return []
        return sorted(
            entry.removesuffix(SUFFIX)
            for entry in entries
            if entry.endswith(SUFFIX) and entry.removesuffix(SUFFIX) in entries
        )

    def forget(self, name: str) -> None:
        """Remove an archive that never got its manifest; a sealed one is left alone.

        Called while an error is on its way: a storage that cannot even delete must not hide it.
        """
        with suppress(OSError):
            if not self.storage.exists(name + SUFFIX):
                self.storage.delete(name)

    def leftovers(self) -> dict[str, str]:
        """Files of unfinished backups, archives that never got a manifest among them:
        {file name: operation id}."""
        if self.directory is None or not self.directory.is_dir():
            return {}
        names = {entry.name for entry in self.directory.iterdir()}
        found = {
            name: _TEMPORARY.match(name) or _UNSEALED.search(name)
            for name in names
            if name + SUFFIX not in names
        }
        return {name: match["operation"] for name, match in found.items() if match}

    def remove_leftover(self, file_name: str) -> None:
        """Remove one of :meth:`leftovers`."""
        if self.directory is not None and file_name in self.leftovers():
            (self.directory / file_name).unlink(missing_ok=True)


def check_name(name: str) -> None:
    """Only plain file names: no directory, no dot first, nothing a storage would interpret.

    Raises:
        BackupNotFoundError: anything else; such a backup cannot exist.
    """
    if not _NAME.match(name):
        raise BackupNotFoundError(f"There is no backup named {name[:100]!r}.")


def check_new_name(name: str) -> None:
    """The same for a name somebody wishes for a new backup. Raises UsageError."""
    if not _NAME.match(name) or name.endswith(SUFFIX):
        raise UsageError(
            f"{name[:100]!r} is no name for a backup.",
            hint="Letters, digits, dots, dashes and underscores, 180 at most, no directory.",
        )


def read_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """A file as chunks."""
    while chunk := file.read(CHUNK):
        yield chunk


def _offer(upload: _Upload, item: bytes | BaseException | None, thread: threading.Thread) -> None:
    # A storage that failed stops reading: do not wait for a place in its queue for ever.
    while thread.is_alive():
        try:
            upload.put(item, timeout=0.2)
            return
        except queue.Full:
            continue


def _write_file(directory: Path, name: str, chunks: Iterable[bytes], operation: str) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = directory / f".{operation}.partial"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, directory / name)
        _fsync_directory(directory)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _publish(temporary: Path, final: Path) -> None:
    """Give the finished file its name, without ever replacing what bears it."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise StorageWriteError(f"A backup named {final.name} exists already.") from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        os.rename(temporary, final)  # a file system without hard links


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
