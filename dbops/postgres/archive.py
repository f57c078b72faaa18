"""pg_dump's custom archive: writing one as a stream, reading its table of contents."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbops.exceptions import BackupInvalidError, ToolError, VersionMismatchError
from dbops.postgres.names import quoted_name
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child, Poll, memory_file
from dbops.postgres.tools import tool_major

MAGIC = b"PGDMP"
LOCK_WAIT_MS = 10_000
"""How long pg_dump waits for a table somebody has locked before it gives up and names it."""
_VERSION_LINE = re.compile(r"^;\s+Dumped (?:from database|by pg_dump) version: (\d+)", re.M)
_ENTRY_LINE = re.compile(r"^\d+; \d+ \d+ (.*)$")
_FIRST_HEAD = 1 << 18
_LARGEST_HEAD = 64 << 20
"""Bytes; ten thousand tables take about a quarter of it."""
_UNEXPECTED_END = ("unexpected end of file", "could not read from input file", "did not find magic")

Opener = Callable[[], AbstractContextManager[Iterator[bytes]]]
"""Opens the archive as a stream of chunks, from its beginning, as often as it is called."""


@dataclass(frozen=True)
class Contents:
    """An archive's head, and what its table of contents tells before anything is restored."""

    head: bytes
    lines: tuple[str, ...]
    """As ``pg_restore --list`` prints them and ``--use-list`` takes them."""
    server_major: int
    dump_major: int

    def entries(self, *tags: str) -> list[str]:
        """The lines whose entry begins with one of ``tags``, such as ``"TABLE DATA"``."""
        return [line for line in self.lines if entry(line).startswith(tags)]

    def names(self, tag: str) -> list[str]:
        """The names of entries without a schema, such as ``EXTENSION``."""
        return [entry(line).removeprefix(f"{tag} - ").split(" ")[0] for line in self.entries(tag)]


def entry(line: str) -> str:
    """What a line of the contents names: its kind, schema, name and owner, and a blank."""
    match = _ENTRY_LINE.match(line)
    return f"{match[1]} " if match else ""


@contextmanager
def dump(
    pg_dump: Path, params: ConnectionParams, *, snapshot: str, options: Sequence[str] = ()
) -> Iterator[Child]:
    """Start ``pg_dump -Fc`` uncompressed, to standard output, under an exported snapshot.

    The caller reads the child to its end and then waits for its exit code.
    """
    argv: list[str | Path] = [
        pg_dump, "--format=custom", "--compress=0", "--encoding=UTF8", "--no-password",
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
    """Load an archive that passes only once into an empty database; any error ends it.

    Raises:
        ToolError: pg_restore failed; the message is its own.
    """
    with restorer(pg_restore, params, options, stdin=subprocess.PIPE) as child:
        child.write(chunks, poll)
        child.wait(poll)


@contextmanager
def restorer(
    pg_restore: Path,
    params: ConnectionParams,
    arguments: Sequence[str],
    *,
    descriptors: tuple[int, ...] = (),
    stdin: int = subprocess.DEVNULL,
) -> Iterator[Child]:
    """pg_restore, loading into ``params`` and ending at any error; the caller waits for it."""
    argv: list[str | Path] = [
        pg_restore, "--exit-on-error", "--no-password",
        "--dbname", params.dbname_argument, *arguments,
    ]  # fmt: skip
    # One transaction for all would run out of locks at some thousand tables; one per statement
    # flushes too often. The database is a scratch one until the swap, whose own commit flushes
    # everything written before it.
    parallel = any(argument.startswith("--jobs") for argument in arguments)
    if not parallel and tool_major(pg_restore) >= 17:
        argv.append("--transaction-size=1000")
    options_so_far = params.extra.get("options", "")
    lazily = {"PGOPTIONS": f"{options_so_far} -c synchronous_commit=off".strip()}
    with Child(
        argv,
        params=params,
        environment=lazily,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        descriptors=descriptors,
    ) as child:
        yield child


def read_contents(pg_restore: Path, archive: Opener | Path, poll: Poll) -> Contents:
    """The table of contents at the head of an archive; reads no further than needed.

    Args:
        archive: how to read it, or the directory that the directory format is.

    Raises:
        BackupInvalidError: it is not an archive, or damaged at its head.
        VersionMismatchError: a newer pg_dump wrote it than this pg_restore can read.
    """
    if isinstance(archive, Path):
        return _list(pg_restore, str(archive), (), b"")
    with archive() as chunks:
        return _read_head(pg_restore, chunks, poll)


def _read_head(pg_restore: Path, chunks: Iterator[bytes], poll: Poll) -> Contents:
    head = bytearray()
    wanted = _FIRST_HEAD
    while True:
        whole = True
        for chunk in chunks:
            poll()
            head += chunk
            if len(head) >= wanted:
                whole = False
                break
        try:
            with memory_file(bytes(head)) as (path, descriptors):
                return _list(pg_restore, path, descriptors, bytes(head))
        except BackupInvalidError as error:
            # Cut off inside the contents; more of it may tell.
            if whole or not any(sign in str(error) for sign in _UNEXPECTED_END):
                raise
        if wanted >= _LARGEST_HEAD:
            raise BackupInvalidError("The archive's table of contents is far too large.")
        wanted *= 4


def _list(pg_restore: Path, path: str, descriptors: tuple[int, ...], head: bytes) -> Contents:
    with Child([pg_restore, "--list", path], descriptors=descriptors) as child:
        listing = b"".join(child.read()).decode("utf-8", "replace")
        try:
            child.wait()
        except ToolError as error:
            if "unsupported version" in child.stderr:
                raise VersionMismatchError(
                    f"The archive was written by a newer pg_dump than pg_restore "
                    f"{tool_major(pg_restore)} can read: {child.cause}.",
                    hint="Restore it on a server of at least the version it came from.",
                ) from error
            raise BackupInvalidError(f"The archive cannot be read: {child.cause}.") from error
    versions = [int(number) for number in _VERSION_LINE.findall(listing)]
    if len(versions) != 2:
        raise BackupInvalidError("The archive does not say which server it came from.")
    lines = tuple(line for line in listing.splitlines() if _ENTRY_LINE.match(line))
    return Contents(head, lines, versions[0], versions[1])


def pattern(*parts: str) -> str:
    """A name as the patterns of pg_dump's options take it literally."""
    return ".".join(map(quoted_name, parts))
