"""pg_dump's custom archive: writing one as a stream, reading one from a stream."""

from __future__ import annotations

import io
import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbops.exceptions import BackupInvalidError, DbopsError, ToolError, VersionMismatchError
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child, Poll
from dbops.postgres.tools import tool_major

MAGIC = b"PGDMP"
LOCK_WAIT_MS = 10_000
"""How long pg_dump waits for a table somebody has locked before it gives up and names it."""
_VERSION_LINE = re.compile(r"^;\s+Dumped (?:from database|by pg_dump) version: (\d+)", re.M)
_EXTENSION_LINE = re.compile(r"^\d+; \d+ \d+ EXTENSION - (\S+)", re.M)


@dataclass(frozen=True)
class ArchiveFacts:
    """What an archive's table of contents tells before anything is restored."""

    server_major: int
    dump_major: int
    extensions: tuple[str, ...]


@contextmanager
def dump(
    pg_dump: Path, params: ConnectionParams, *, snapshot: str, options: Sequence[str] = ()
) -> Iterator[Child]:
    """Start ``pg_dump -Fc`` uncompressed, to standard output, under an exported snapshot.

    The caller reads the child to its end and then waits for its exit code.
    """
    argv: list[str | Path] = [
        pg_dump, "--format=custom", "--compress=0", "--no-password",
        f"--snapshot={snapshot}", f"--lock-wait-timeout={LOCK_WAIT_MS}", *options,
    ]  # fmt: skip
    with Child(argv, params=params) as child:
        yield child


def restore(
    pg_restore: Path,
    params: ConnectionParams,
    chunks: Iterator[bytes],
    *,
    poll: Poll,
    options: Sequence[str] = (),
) -> None:
    """Load an archive from ``chunks`` into the empty database ``params`` names; any error ends it.

    Raises:
        ToolError: pg_restore failed; the message is its own.
    """
    argv: list[str | Path] = [
        pg_restore, "--exit-on-error", "--no-password",
        "--dbname", params.dbname_argument, *options,
    ]  # fmt: skip
    # One transaction for all would run out of locks at some thousand tables; one per statement
    # flushes too often. The database is a scratch one until the swap, whose own commit flushes
    # everything written before it.
    if tool_major(pg_restore) >= 17:
        argv.append("--transaction-size=1000")
    options_so_far = params.extra.get("options", "")
    lazily = {"PGOPTIONS": f"{options_so_far} -c synchronous_commit=off".strip()}
    with Child(
        argv,
        params=params,
        environment=lazily,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as child:
        child.write(chunks, poll)
        child.wait(poll)


def _feed(child: Child, chunks: Iterator[bytes], failures: list[DbopsError]) -> None:
    try:
        child.write(chunks)
    except DbopsError as error:
        failures.append(error)


def read_contents(pg_restore: Path, chunks: Iterator[bytes], poll: Poll) -> ArchiveFacts:
    """The table of contents at the head of an archive; reads no further than needed.

    Raises:
        BackupInvalidError: it is not an archive, or damaged at its head.
        VersionMismatchError: a newer pg_dump wrote it than this pg_restore can read.
    """
    with Child([pg_restore, "--list"], stdin=subprocess.PIPE) as child:
        # pg_restore may print before it has read all we feed: one thread each way, or both block.
        failures: list[DbopsError] = []
        feeder = threading.Thread(target=_feed, args=(child, chunks, failures), daemon=True)
        feeder.start()
        listing = b"".join(child.read(poll)).decode("utf-8", "replace")
        feeder.join()
        if failures:
            raise failures[0]
        try:
            child.wait()
        except ToolError as error:
            if "unsupported version" in child.stderr:
                raise VersionMismatchError(
                    f"The archive was written by a newer pg_dump than this one can read: "
                    f"{child.cause}.",
                    hint="Restore it on a server of at least the version it came from.",
                ) from error
            raise BackupInvalidError(f"The archive cannot be read: {child.cause}.") from error
    versions = [int(number) for number in _VERSION_LINE.findall(listing)]
    if len(versions) != 2:
        raise BackupInvalidError("The archive does not say which server it came from.")
    return ArchiveFacts(versions[0], versions[1], tuple(_EXTENSION_LINE.findall(listing)))


class ArchiveScript(io.RawIOBase):
    """A custom archive as the SQL pg_restore would run, for whoever reads it first.

    An archive holds statements as text, and pg_restore runs whatever stands there; what was made
    elsewhere is therefore read as a script (docs/decisions/0003).
    """

    def __init__(self, pg_restore: Path, chunks: Iterator[bytes], poll: Poll) -> None:
        argv: list[str | Path] = [pg_restore, "--file=-", "--no-owner", "--no-privileges"]
        self._child = Child(argv, stdin=subprocess.PIPE)
        self._failures: list[DbopsError] = []
        self._feeder = threading.Thread(
            target=_feed, args=(self._child, chunks, self._failures), daemon=True
        )
        self._feeder.start()
        self._output = self._child.read(poll)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises BackupInvalidError at the end of an archive that was not whole."""
        if not self._rest:
            self._rest = next(self._output, b"")
            if not self._rest:
                self._check_end()
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def _check_end(self) -> None:
        self._feeder.join()
        if self._failures:
            raise self._failures[0]
        try:
            self._child.wait()
        except ToolError as error:
            raise BackupInvalidError(f"The archive is damaged: {self._child.cause}.") from error

    def close(self) -> None:
        if not self.closed:
            self._child.__exit__(None, None, None)
        super().close()
