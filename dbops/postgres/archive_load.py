"""Loading an archive from a stream, several tables at a time.

A stream cannot be searched, so ``pg_restore --jobs`` refuses it. But an archive begins with its
table of contents, which is small and all that pg_restore needs for what holds no rows. So the
*head* of the archive is kept in memory and the load goes by stages: definitions from the head;
rows by several pg_restore side by side, each reading the whole stream and loading its share of the
tables; indexes and constraints by ``pg_restore --jobs`` from the head again; grants last, as
pg_restore itself does, since an owner may have been left without the right to insert.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dbops.postgres.archive import Contents, Opener, entry, restorer
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Poll, memory_file
from dbops.postgres.together import Job, run_together


@dataclass(frozen=True)
class Load:
    """How an archive is to be loaded."""

    pg_restore: Path
    contents: Contents
    open: Opener
    jobs: int = 1
    options: tuple[str, ...] = ()
    """``--no-owner``, ``--no-privileges``."""
    weights: Mapping[str, int] | None = None
    """{"schema.table": bytes or rows}: the shares of several jobs are balanced by them."""
    only_rows_of: frozenset[str] | None = None
    """Tables ("schema.table") whose rows are loaded, without foreign keys, grants and refreshed
    views; None for everything."""
    without: frozenset[str] = frozenset()
    """Lines of the contents that are left out."""


_LATE = ("ACL ", "DEFAULT ACL ", "MATERIALIZED VIEW DATA ", "EVENT TRIGGER ",
         "COMMENT - EVENT TRIGGER ")  # fmt: skip
_WITHOUT_SECTION = ("COMMENT ", "ACL ", "SECURITY LABEL ")
_LARGE = ("BLOB", "COMMENT - LARGE OBJECT ", "SECURITY LABEL - LARGE OBJECT ")
_ROWS = ("TABLE DATA ", "SEQUENCE SET ", *_LARGE)


def load(params: ConnectionParams, how: Load, poll: Poll) -> None:
    """Load an archive into the empty database ``params`` names; any error ends it.

    Raises:
        ToolError: pg_restore failed; the message is its own.
        BackupInvalidError: the stream is damaged.
    """
    load_definitions(params, how, poll)
    _load_rows(params, how, poll)
    load_constraints(params, how, poll)


def load_definitions(params: ConnectionParams, how: Load, poll: Poll) -> None:
    """What comes before the rows: schemas, types, functions, tables without keys. Raises
    ToolError."""
    _from_head(params, how, _early(how), poll, "--section=pre-data")


def load_constraints(params: ConnectionParams, how: Load, poll: Poll) -> None:
    """What comes after the rows: indexes, keys, triggers, grants, refreshed views. Raises
    ToolError."""
    # --jobs and --transaction-size exclude each other.
    _from_head(params, how, _early(how), poll, "--section=post-data", f"--jobs={how.jobs}")
    if how.only_rows_of is None:
        _from_head(params, how, sorted(_late(how)), poll)


def _late(how: Load) -> set[str]:
    late = set(how.contents.entries(*_LATE))
    if how.only_rows_of is not None:  # what the foreign keys point at is not there
        late |= set(how.contents.entries("FK CONSTRAINT ", "COMMENT "))
    return late


def _early(how: Load) -> list[str]:
    late = _late(how)
    return [line for line in how.contents.lines if line not in late]


def _from_head(
    params: ConnectionParams, how: Load, lines: Sequence[str], poll: Poll, *options: str
) -> None:
    wanted = _kept(how, lines)
    if any(option.startswith("--section") for option in options):
        wanted = _in_sections(wanted)
    with (
        _list_file(wanted) as (chosen, first),
        memory_file(how.contents.head) as (head, second),
        restorer(
            how.pg_restore,
            params,
            [*how.options, f"--use-list={chosen}", *options, head],
            descriptors=(*first, *second),
        ) as child,
    ):
        child.wait(poll)


def _list_file(
    lines: Sequence[str],
) -> AbstractContextManager[tuple[str, tuple[int, ...]]]:
    return memory_file("\n".join(lines).encode())


def _kept(how: Load, lines: Sequence[str]) -> list[str]:
    wanted = set(lines) - how.without
    return [line for line in how.contents.lines if line in wanted]  # in the archive's own order


def _in_sections(lines: list[str]) -> list[str]:
    """The same, one first that tells its section. One that tells none, a comment say, counts to the
    section of what is before it; and what a list leaves out stands before all, rows included."""
    first = next((it for it in lines if not entry(it).startswith(_WITHOUT_SECTION)), None)
    if first is None:
        return lines
    place = lines.index(first)
    return [first, *lines[:place], *lines[place + 1 :]]


def _load_rows(params: ConnectionParams, how: Load, poll: Poll) -> None:
    def job(share: list[str]) -> Job:
        return lambda poll: _load_share(params, how, share, poll)

    run_together([job(share) for share in _shares(how)], poll)


def _load_share(params: ConnectionParams, how: Load, lines: list[str], poll: Poll) -> None:
    with (
        _list_file(lines) as (chosen, descriptors),
        how.open() as chunks,
        restorer(
            how.pg_restore,
            params,
            [*how.options, "--section=data", f"--use-list={chosen}"],
            descriptors=descriptors,
            stdin=subprocess.PIPE,
        ) as child,
    ):
        child.write(chunks, poll)
        child.wait(poll)


def _shares(how: Load) -> list[list[str]]:
    """The entries that hold rows, dealt out to the jobs: the heaviest first, to the least laden."""
    lines = _kept(how, how.contents.entries(*_ROWS))
    if how.only_rows_of is not None:
        wanted = ["SEQUENCE SET ", *map(_rows_entry, how.only_rows_of)]
        lines = [line for line in lines if entry(line).startswith(tuple(wanted))]
    weights = {_rows_entry(table): weight for table, weight in (how.weights or {}).items()}

    def weight(line: str) -> int:
        # The last word is the owner, which the weights do not know.
        return weights.get(entry(line).rstrip().rpartition(" ")[0] + " ", 0)

    loads = [0] * max(1, how.jobs)
    shares: list[list[str]] = [[] for _ in loads]
    # Large objects are made, filled and described one after the other: no two may be parted.
    large = [line for line in lines if entry(line).startswith(_LARGE)]
    shares[0], loads[0] = large, len(large)
    for line in sorted(set(lines) - set(large), key=weight, reverse=True):
        least = loads.index(min(loads))
        loads[least] += weight(line) + 1
        shares[least].append(line)
    order = {line: number for number, line in enumerate(lines)}  # a stream has no way back
    return [sorted(share, key=order.__getitem__) for share in shares if share]


def _rows_entry(table: str) -> str:
    return f"TABLE DATA {table.replace('.', ' ', 1)} "
