"""The bytes of a backup: zstd around pg_dump's archive, counted and hashed as they pass."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import zstandard

from dbops.exceptions import BackupInvalidError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
GZIP_MAGIC = b"\x1f\x8b"
_MORSEL = 4096
"""Bytes inflated at once: a stream made to swell a thousandfold stays within some megabytes."""
# Level 3 in a thread of its own keeps pace with pg_dump and leaves ours to pass chunks on. It
# holds a few jobs, so those of 2 MB bound the memory; a second thread gains nothing.
_PARAMETERS = zstandard.ZstdCompressionParameters.from_level(
    3, threads=1, window_log=20, job_size=1 << 21, write_checksum=True
)


class Meter:
    """Counts and hashes the chunks that pass through it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size = 0

    def watch(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digest.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def compress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """zstd with a content checksum, never holding more than a chunk."""
    compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS).compressobj()
    for chunk in chunks:
        compressed = compressor.compress(chunk)
        if compressed:
            yield compressed
    yield compressor.flush()


def decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The archive inside, whether it is wrapped in zstd, in gzip, or not at all.

    Raises:
        BackupInvalidError: the stream is damaged or ends too early.
    """
    stream = iter(chunks)
    head = next(stream, b"")
    rest = _chain(head, stream)
    if head.startswith(ZSTD_MAGIC):
        return _inflate(rest, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError)
    if head.startswith(GZIP_MAGIC):
        return _inflate(rest, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error)
    return rest


def _chain(head: bytes, stream: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from stream


def _inflate(
    chunks: Iterator[bytes], new_inflater: Callable[[], Any], error_class: type[Exception]
) -> Iterator[bytes]:
    inflater = new_inflater()
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _MORSEL):
                morsel = chunk[start : start + _MORSEL]
                while morsel:
                    if inflater.eof:  # several files in one, as parallel compressors write them
                        inflater = new_inflater()
                    inflated = inflater.decompress(morsel)
                    morsel = inflater.unused_data if inflater.eof else b""
                    if inflated:  # an empty chunk would look like the end to who asks for the first
                        yield inflated
    except error_class as error:
        raise BackupInvalidError(f"The compressed stream is damaged: {error}.") from error
    if not inflater.eof:
        raise BackupInvalidError("The compressed stream ends too early: the file is truncated.")
