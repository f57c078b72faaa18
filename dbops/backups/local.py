"""A file written whole or not at all: temporary name → fsync → link → fsync of the directory."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dbops.exceptions import StorageWriteError


def exists_already(name: str) -> StorageWriteError:
    """What bears a name is never replaced."""
    return StorageWriteError(f"A backup named {name} exists already.")


def write_file(directory: Path, name: str, chunks: Iterable[bytes], operation: str) -> None:
    """Write ``chunks`` to a new file; nothing of it stays where they, or the disk, fail.

    Raises:
        StorageWriteError: the name is taken. OSError: the disk refuses.
    """
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
        try:
            _fsync_directory(directory)
        except BaseException:  # a name that a power cut may take away is none
            (directory / name).unlink(missing_ok=True)
            raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _publish(temporary: Path, final: Path) -> None:
    """Give the finished file its name, without ever replacing what bears it."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise exists_already(final.name) from None
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
