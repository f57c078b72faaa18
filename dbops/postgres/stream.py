"""Many tables' rows from one database into another, several side by side, under one snapshot.

The biggest travel first, so that none is left alone at the end; tables too large for that are
parted by ranges of their blocks. Large ones go from psql to psql, small ones over connections that
stay open: a process for each of ten thousand tables would cost more than their rows.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import psycopg2
from psycopg2 import sql

from dbops.exceptions import StatementError, ToolError
from dbops.postgres.connection import (
    WRITTEN,
    Connection,
    apply_settings,
    connect,
    execute,
    transaction,
)
from dbops.postgres.names import quoted, quoted_name
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Poll
from dbops.postgres.pump import QUOTING, READING, End, copy_rows, pipe_rows
from dbops.postgres.snapshot import look_through
from dbops.postgres.together import Job, run_together

PIPED_FROM = 4 << 20
"""Bytes of a table from which two processes are worth their start."""
PARTED_FROM = 1 << 30
"""Bytes from which a table is parted where it is more than one worker's share."""
_LOCKED_AT_ONCE = 200
"""Tables a worker reads before it lets go of their locks: the server has room for a limited number,
and whoever keeps the snapshot has locked them all the same."""


@dataclass(frozen=True)
class Origin:
    """A database rows are read from, under a snapshot somebody keeps open."""

    params: ConnectionParams
    snapshot: str
    server_version: int


@dataclass(frozen=True)
class Parcel:
    """Rows of one table that travel together."""

    table: str
    origin: Origin
    columns: tuple[str, ...]
    """Of the target."""
    values: tuple[str, ...]
    """What each is read as: SQL over the origin's table."""
    bytes: int
    size_in_blocks: int = 0
    """Of the table itself, what lies out of line left out."""
    binary: bool = True
    freeze: bool = True
    """Nobody else loads the table: its rows can be written as frozen."""
    checked: bool = False
    """Rows may not fit: the table is then named instead of ending it all."""
    whole_tree: bool = False
    """Read with the partitions it has."""
    blocks: tuple[int, int] | None = None
    """Only these, the last left out."""

    @property
    def source(self) -> str:
        """The query or table expression the rows are read by."""
        only = "" if self.whole_tree else "ONLY "
        where = ""
        if self.blocks:
            first, last = self.blocks
            where = f" WHERE ctid >= '({first},0)' AND ctid < '({last},0)'"
        return f"SELECT {', '.join(self.values)} FROM {only}{quoted(self.table)}{where}"


@dataclass
class Moved:
    """What came of it."""

    rows: Counter[str] = field(default_factory=Counter)
    misfits: list[Parcel] = field(default_factory=list)
    """Those with rows that do not fit, of which none was loaded."""


def parted(parcels: Sequence[Parcel], jobs: int) -> list[Parcel]:
    """The same, with what is more than one worker's share cut into ranges of blocks."""
    share = sum(parcel.bytes for parcel in parcels) // max(1, jobs)
    found: list[Parcel] = []
    for parcel in parcels:
        if jobs == 1 or parcel.bytes < max(PARTED_FROM, share * 5 // 4) or parcel.checked:
            found.append(parcel)
            continue
        last = (1 << 32) - 1
        step = -(-parcel.size_in_blocks // jobs)
        bounds = [number * step for number in range(jobs)] + [last]
        found += [
            replace(parcel, blocks=(first, end), bytes=parcel.bytes // jobs, freeze=False)
            for first, end in pairwise(bounds)
        ]
    return found


def move_rows(
    parcels: Sequence[Parcel],
    target: ConnectionParams,
    *,
    application: str,
    jobs: int,
    psql: Path | None,
    poll: Poll,
    progress: Callable[[int, int], None],
) -> Moved:
    """Load all parcels into the empty tables of ``target``.

    Args:
        jobs: how many travel side by side; each takes one connection to its origin, or, of a
            large table, another one.
        psql: what large tables are piped through; None where connections are too few for that.
        progress: hears (bytes done, of how many), twice a second.

    Raises:
        StatementError, ToolError: rows could not be read or written. ProofError: some got lost.
    """
    waiting = sorted(parcels, key=lambda parcel: parcel.bytes)
    total, done = sum(parcel.bytes for parcel in parcels), 0
    moved, lock = Moved(), threading.Lock()
    workers: list[_Worker] = []

    def take() -> Parcel | None:
        with lock:
            return waiting.pop() if waiting else None

    def work(poll_all: Poll) -> None:
        nonlocal done
        with _Worker(target, application, psql, poll_all) as worker:
            workers.append(worker)
            while (parcel := take()) is not None:
                poll_all()
                try:
                    rows = worker.move(parcel)
                except ToolError as error:
                    raise ToolError(f"{parcel.table}: {error}", hint=error.hint) from error
                except StatementError as error:
                    if not parcel.checked or not _is_misfit(error):
                        raise StatementError(f"{parcel.table}: {error}", hint=error.hint) from error
                    with lock:
                        moved.misfits.append(parcel)
                    rows = 0
                with lock:
                    moved.rows[parcel.table] += rows
                    done += parcel.bytes

    count = max(1, min(jobs, len(waiting)))
    each: list[Job] = [work] * count

    def interrupt() -> None:
        for worker in list(workers):
            worker.interrupt()

    run_together(each, poll, lambda: progress(done, total), interrupt)
    return moved


def _is_misfit(error: StatementError) -> bool:
    code = getattr(error.__cause__, "pgcode", None)
    return bool(code) and str(code)[:2] in QUOTING


class _Worker:
    """One of several: its connections stay open from table to table."""

    def __init__(
        self, target: ConnectionParams, application: str, psql: Path | None, poll: Poll
    ) -> None:
        self._params, self._psql, self._poll = target, psql, poll
        self._application = application
        self._closing = ExitStack()
        self._readers: dict[str, Connection] = {}
        self._read = 0

    def __enter__(self) -> _Worker:
        self._target = self._opened(self._params)
        execute(self._target, "SET synchronous_commit = off")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def interrupt(self) -> None:
        """From another thread: end the statement it waits for, if there is one."""
        for connection in (self._target, *list(self._readers.values())):
            with suppress(psycopg2.Error):  # closed by now, or out of reach
                connection.cancel()

    def _opened(self, params: ConnectionParams) -> Connection:
        connection = connect(params, application=self._application)
        self._closing.callback(connection.close)
        apply_settings(connection, WRITTEN)
        return connection

    def _reader(self, origin: Origin) -> Connection:
        if origin.snapshot not in self._readers:
            reader = self._readers[origin.snapshot] = self._opened(origin.params)
            apply_settings(reader, READING)
            look_through(reader, origin.snapshot)
        self._read += 1
        if self._read % _LOCKED_AT_ONCE == 0:
            execute(self._readers[origin.snapshot], "ROLLBACK")
            look_through(self._readers[origin.snapshot], origin.snapshot)
        return self._readers[origin.snapshot]

    def move(self, parcel: Parcel) -> int:
        large = parcel.bytes >= PIPED_FROM
        frozen = parcel.freeze and large
        options = ["FORMAT binary"] * parcel.binary
        read = f"COPY ({parcel.source}) TO STDOUT{_options(options)}"
        table = quoted(parcel.table)
        columns = f" ({', '.join(map(quoted_name, parcel.columns))})" if parcel.columns else ""
        write = f"COPY {table}{columns} FROM STDIN{_options(options + ['FREEZE'] * frozen)}"
        # Only what the same transaction made or emptied can be written as frozen.
        begin = ["BEGIN", f"TRUNCATE ONLY {table}"] if frozen else []
        if large and self._psql is not None and not parcel.checked:
            version = self._target.server_version
            origin = parcel.origin
            name, psql = self._application, self._psql
            source = End(psql, origin.params, origin.server_version, name, origin.snapshot)
            target = End(psql, self._params, version, name)
            return pipe_rows(
                source, target, read, [*begin, write, *["COMMIT"] * frozen], self._poll
            )
        reader = self._reader(parcel.origin)
        try:
            with transaction(self._target) if begin else nullcontext():
                for statement in begin[1:]:
                    execute(self._target, statement)
                return copy_rows(reader, self._target, sql.SQL(read), sql.SQL(write), self._poll)
        except StatementError:
            # Cut off in the middle of sending; another one goes on with the next table.
            self._readers.pop(parcel.origin.snapshot).close()
            raise


def _options(options: Sequence[str]) -> str:
    return f" ({', '.join(options)})" if options else ""
