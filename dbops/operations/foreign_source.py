"""Dumps made elsewhere, as something to restore: in a file, a directory, or the storage."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from dbops.backups.codec import decompress
from dbops.backups.encryption import Keys, decrypt
from dbops.backups.store import BackupStore, read_chunks
from dbops.exceptions import BackupNotFoundError, ForeignDumpError
from dbops.operations.context import OperationContext
from dbops.operations.guards import Endpoint, Preflight
from dbops.operations.restore_source import LoadOptions
from dbops.postgres import archive
from dbops.postgres.archive_script import ArchiveScript, ChunkFile
from dbops.postgres.connection import execute, session
from dbops.postgres.databases import MAINTENANCE, require_shared_untouched
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import CHUNK
from dbops.postgres.script import PUBLIC_FIRST, check_script, load_script
from dbops.postgres.tools import find_tool

_UNPACK = "Unpack it first; of compressed dumps .gz and .zst are read."
_OF_ANOTHER = "Only dumps of PostgreSQL can be restored: pg_dump makes them."
# What people hand in by mistake, by its first bytes.
_OTHERS = (
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive", _UNPACK),
    (b"BZh", "a file compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "a file compressed by xz", _UNPACK),
    (b"\x04\x22\x4d\x18", "a file compressed by lz4", _UNPACK),
    (b"SQLite format 3\x00", "a SQLite database", _OF_ANOTHER),
    (b"-- MySQL dump", "a dump of MySQL", _OF_ANOTHER),
    (b"-- MariaDB dump", "a dump of MariaDB", _OF_ANOTHER),
    (b"--\n-- PostgreSQL database cluster dump", "a dump of a whole cluster, by pg_dumpall",
     "Dump the one database: pg_dump --format=custom"),
    (b"[{", "a fixture of Django", "python manage.py loaddata reads it"),
)  # fmt: skip


class ForeignSource:
    """A dump made elsewhere, in any of pg_dump's formats: read before it runs, and loaded as
    statements of an ordinary role in one transaction (docs/decisions/0003)."""

    expected = None
    size = 0
    major = 0
    partial = False

    def __init__(
        self,
        name: str,
        opened: archive.Opener | Path,
        options: LoadOptions,
        context: OperationContext,
    ) -> None:
        """``opened``: how to read it, or the directory that pg_dump's directory format is."""
        self.name = name
        self._opened, self._options, self._context = opened, options, context
        self._major = 0
        self._tool: Path | None = None
        """pg_restore where it is an archive, None where it is plain SQL."""

    def look(self, endpoint: Endpoint, problems: Preflight) -> None:
        if endpoint.server.superuser:
            raise ForeignDumpError(
                f"{self.name} was made elsewhere and is not run by a superuser, who may do "
                f"anything on the server.",
                hint="Connect as an ordinary role that owns the database and has CREATEDB.",
            )
        self._major = endpoint.server.major
        if self._is_archive():
            self._look_at_archive(endpoint, problems)
        problems.check()
        self._context.step("check")
        check_script(self.script, self.name, poll=self._context.check_cancelled)

    def _is_archive(self) -> bool:
        if isinstance(self._opened, Path):
            return True
        with self._opened() as chunks:
            head = next(chunks, b"")
        for magic, what, hint in _OTHERS:
            if head.startswith(magic):
                raise ForeignDumpError(f"{self.name} looks like {what}.", hint=hint)
        return head.startswith(archive.MAGIC) or _is_tar(head)

    def _look_at_archive(self, endpoint: Endpoint, problems: Preflight) -> None:
        self._tool = find_tool("pg_restore", endpoint.server.major, self._options.pg_bin)
        contents = archive.read_contents(self._tool, self._opened, self._context.check_cancelled)
        problems.require_not_newer(self.name, contents.server_major, endpoint.server)
        with session(endpoint.params.with_database(MAINTENANCE)) as control:
            problems.require_extensions(control, contents.names("EXTENSION"))

    def load(self, target: ConnectionParams, rows_of: frozenset[str] | None = None) -> None:
        self._context.step("load")
        with session(target, application=self._context.application) as connection:
            execute(connection, PUBLIC_FIRST)
            connection.autocommit = False
            with self.script() as stream:
                load_script(
                    stream,
                    connection,
                    server_major=self._major,
                    poll=self._context.check_cancelled,
                    name=self.name,
                )
            require_shared_untouched(connection, self.name)
            connection.commit()

    def lacks(self, tables: Sequence[str], schemas: Sequence[str], endpoint: Endpoint) -> list[str]:
        return []

    def script(self) -> IO[bytes]:
        if self._tool is not None:
            script: ChunkFile = ArchiveScript(
                self._tool, self._opened, self._context.check_cancelled
            )
        else:
            assert not isinstance(self._opened, Path)
            script = _PlainScript(self._opened)
        return io.BufferedReader(script, CHUNK)


class _PlainScript(ChunkFile):
    """Plain SQL, decrypted and decompressed."""

    def __init__(self, opened: archive.Opener) -> None:
        self._closing = ExitStack()
        super().__init__(self._closing.enter_context(opened()))

    def close(self) -> None:
        self._closing.close()
        super().close()


def stored_dump(
    store: BackupStore, name: str, keys: Keys, options: LoadOptions, context: OperationContext
) -> ForeignSource:
    """A dump in the storage that nobody signed: one of django-dbbackup's."""

    @contextmanager
    def opened() -> Iterator[Iterator[bytes]]:
        with store.reading(name) as chunks:
            yield decompress(decrypt(chunks, keys, context.check_cancelled))

    return ForeignSource(name, opened, options, context)


def foreign_file(
    path: Path, keys: Keys, options: LoadOptions, context: OperationContext
) -> ForeignSource:
    """A dump in a file, or in the directory that pg_dump's directory format is.

    Raises:
        BackupNotFoundError: there is none.
        ForeignDumpError: a directory that is no dump.
    """
    if path.is_dir():
        if not (path / "toc.dat").is_file():
            raise ForeignDumpError(
                f"{path.name} is a directory without toc.dat: pg_dump's directory format has one.",
                hint="Name a dump: pg_dump's custom, directory, tar or plain format.",
            )
        return ForeignSource(path.name, path, options, context)
    if not path.is_file():
        raise BackupNotFoundError(f"There is no file {path}.", hint="Check the path.")

    @contextmanager
    def opened() -> Iterator[Iterator[bytes]]:
        with path.open("rb") as file:
            yield decompress(decrypt(read_chunks(file), keys, context.check_cancelled))

    return ForeignSource(path.name, opened, options, context)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"
