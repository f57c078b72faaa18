"""Dumps as scripts: a file to read, behind which pg_restore or pg_dump writes."""

from __future__ import annotations

import io
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dbops.exceptions import BackupInvalidError, DbopsError, ToolError
from dbops.postgres.archive import Opener
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child, Poll


def _feed(child: Child, chunks: Iterator[bytes], failures: list[DbopsError]) -> None:
    try:
        child.write(chunks)
    except DbopsError as error:
        failures.append(error)


class ChunkFile(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._chunks, b"")
        if not self._rest:
            self.at_end()
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)

    def at_end(self) -> None:
        """Raises where the chunks ended before they should have."""


class ArchiveScript(ChunkFile):
    """A custom archive as the SQL pg_restore would run, for whoever reads it first.

    An archive holds statements as text, and pg_restore runs whatever stands there; what was made
    elsewhere is therefore read as a script (docs/decisions/0003).
    """

    def __init__(
        self,
        pg_restore: Path,
        archive: Opener | Path,
        poll: Poll,
        options: Sequence[str] = ("--no-owner", "--no-privileges"),
    ) -> None:
        """``archive``: how to read it, or the directory that the directory format is."""
        self._closing = ExitStack()
        self._failures: list[DbopsError] = []
        self._feeder: threading.Thread | None = None
        argv: list[str | Path] = [pg_restore, "--file=-", *options]
        if isinstance(archive, Path):
            self._child = self._closing.enter_context(Child([*argv, archive]))
        else:
            chunks = self._closing.enter_context(archive())
            self._child = self._closing.enter_context(Child(argv, stdin=subprocess.PIPE))
            self._feeder = threading.Thread(
                target=_feed, args=(self._child, chunks, self._failures), daemon=True
            )
            self._feeder.start()
            self._closing.callback(self._feeder.join)  # before what it reads is closed
        super().__init__(self._child.read(poll))

    def at_end(self) -> None:
        """Raises BackupInvalidError: the archive was not whole."""
        if self._feeder:
            self._feeder.join()
        if self._failures:
            raise self._failures[0]
        try:
            self._child.wait()
        except ToolError as error:
            raise BackupInvalidError(f"The archive is damaged: {self._child.cause}.") from error

    def close(self) -> None:
        if not self.closed:
            self._child.kill()  # the feeder then finds nobody to write to, and ends
            self._closing.close()
        super().close()


class DumpScript(ChunkFile):
    """What ``pg_dump --format=plain`` writes, for whoever reads it first."""

    def __init__(
        self, pg_dump: Path, params: ConnectionParams, options: Sequence[str], poll: Poll
    ) -> None:
        self._child = Child([pg_dump, "--no-password", "--encoding=UTF8", *options], params=params)
        super().__init__(self._child.read(poll))

    def at_end(self) -> None:
        """Raises ToolError: the dump failed."""
        self._child.wait()

    def close(self) -> None:
        if not self.closed:
            self._child.__exit__(None, None, None)
        super().close()
