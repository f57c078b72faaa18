"""From a dump that writes to a storage that reads: a file object between two threads."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterable, Iterator

from dbops.exceptions import StorageWriteError
from dbops.postgres.process import CHUNK

_AHEAD = 16
"""Chunks the dump may be ahead of the storage: it goes on while a part is being sent."""


class Upload:
    """The file object a remote storage reads while the dump writes. It has no size and no way
    back."""

    closed = False

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=_AHEAD)
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def put(self, item: bytes | BaseException | None, thread: threading.Thread) -> None:
        """Give a chunk, None for the end, or an error, to who reads in ``thread``."""
        while thread.is_alive():  # a storage that failed reads no more: no place becomes free
            try:
                self._queue.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def read(self, size: int = -1) -> bytes:
        taken = io.BytesIO()  # gives its content away without copying it
        while (size < 0 or taken.tell() < size) and (self._rest or self._receive()):
            cut = len(self._rest) if size < 0 else size - taken.tell()
            taken.write(self._rest[:cut])
            self._rest = self._rest[cut:]
        return taken.getvalue()

    def _receive(self) -> bool:
        """Wait for the next chunk; False once there is none."""
        while not self._ended and not self._rest:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise StorageWriteError("The upload was abandoned.") from item
            self._ended = item is None
            self._rest = item or b""
        return bool(self._rest)

    def chunks(self, chunk_size: int = CHUNK) -> Iterator[bytes]:
        while chunk := self.read(chunk_size):
            yield chunk


def upload(save: Callable[[Upload], str], chunks: Iterable[bytes]) -> str:
    """Let ``save`` read ``chunks`` as a file, in a thread of its own; what it returned.

    Raises:
        OSError, StorageWriteError: ``save`` failed. Besides, whatever ``chunks`` raises; ``save``
        has ended then, too.
    """
    content = Upload()
    saved: list[str] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            saved.append(save(content))
        except BaseException as error:  # carried to the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for chunk in _pieces(chunks):
            content.put(chunk, thread)
            if failure:  # the rest of the dump would be in vain
                break
        content.put(None, thread)
        thread.join()
    except BaseException as error:
        content.put(error, thread)
        thread.join()
        raise
    if not failure:
        return saved[0]
    if isinstance(failure[0], (OSError, StorageWriteError)):
        raise failure[0]
    raise StorageWriteError(f"The backup storage failed: {failure[0]}") from failure[0]


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Never larger than CHUNK: how far the dump is ahead is counted in chunks."""
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK):
            yield chunk[start : start + CHUNK]
