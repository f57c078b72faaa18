"""Running migrations under supervision: they can be cancelled, and who keeps them waiting is told.

What a migration is, Django knows, which lives above: here it is a :class:`Migrator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg2
from psycopg2 import errors

from dbops.exceptions import DbopsError, LockedError, MigrationError, StatementError
from dbops.operations.context import OperationContext
from dbops.postgres.connection import Connection, first_line, session
from dbops.postgres.footprint import Relation, read_locks, stronger
from dbops.postgres.lock_waits import Blocker, find_blocker
from dbops.postgres.params import ConnectionParams
from dbops.postgres.together import run_together

LOCK_TIMEOUT = 5.0
"""Seconds a migration waits for a table by default."""
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Step:
    """One migration to be applied, or undone."""

    label: str
    """``app.name``."""
    backwards: bool = False
    atomic: bool = True
    """Whether it can be part of a transaction."""
    irreversible: str = ""
    """The operation that cannot be undone; "" where all can."""


def _nothing(connection: Connection, step: Step) -> None:
    """Most runs look at nothing."""


def _no_end(connection: Connection) -> None:
    """Most runs end with the last migration."""


@dataclass(frozen=True)
class Run:
    """How a migrator is to go about it, and what it calls meanwhile."""

    context: OperationContext
    lock_timeout: float
    together: bool
    """All in one transaction; else each migration in its own, or in none where it is not atomic."""
    started: Callable[[Connection], None]
    """Hears of the connection that is used."""
    before: Callable[[Connection, Step], None] = _nothing
    after: Callable[[Connection, Step], None] = _nothing
    """Both within the migration's transaction, if it has one."""
    finish: Callable[[Connection], None] = _no_end
    """After the last, before the transaction of all is committed."""
    announce: bool = True
    """Tell the applications by Django's signals, which make content types and permissions."""


class Migrator(Protocol):
    """What applies, or undoes, an application's migrations."""

    def plan(self, database: ConnectionParams) -> tuple[Step, ...]:
        """What there is to do on that database, in order. Raises MigrationError."""

    def run(self, database: ConnectionParams, steps: Sequence[Step], how: Run) -> None:
        """Do it, in the calling thread. Raises whatever a migration raises."""


@dataclass
class _Watching:
    """What a run tells as it goes, and what is seen of it from another session."""

    steps: Sequence[Step]
    context: OperationContext
    before: Callable[[Connection, Step], None]
    """What the caller does before each step."""
    tables: Mapping[int, Relation] = field(default_factory=dict)
    """Tables on which locks are looked for as they are taken."""
    sampled: dict[str, str] = field(default_factory=dict)
    connection: Connection | None = None
    """The one that migrates."""
    step: Step | None = None
    blocker: Blocker | None = None

    def start(self, connection: Connection) -> None:
        self.connection = connection

    def begin(self, connection: Connection, step: Step) -> None:
        self.step = step
        verb, done = "undo" if step.backwards else "apply", self.steps.index(step)
        self.context.step(f"{verb} {step.label}", done, len(self.steps))
        self.before(connection, step)

    def look(self, observer: Connection) -> None:
        self.context.check_cancelled()
        if self.connection is None or self.connection.closed:
            return
        pid = self.connection.info.backend_pid
        with suppress(StatementError):  # to look is no reason to fail
            found = find_blocker(observer, pid)
            if found and found != self.blocker:
                self.context.log(f"Waiting for {found.relation}, held by {found}")
            self.blocker = found or self.blocker
            if self.tables:
                for name, mode in read_locks(observer, self.tables, pid).items():
                    self.sampled[name] = stronger(self.sampled.get(name), mode)

    def interrupt(self) -> None:
        if self.connection is not None:
            with suppress(psycopg2.Error):
                self.connection.cancel()


def run_steps(
    migrator: Migrator,
    database: ConnectionParams,
    steps: Sequence[Step],
    context: OperationContext,
    *,
    together: bool,
    lock_timeout: float = LOCK_TIMEOUT,
    tables: Mapping[int, Relation] | None = None,
    **hooks: Any,
) -> Mapping[str, str]:
    """Let the migrator do these steps.

    Args:
        lock_timeout: seconds to wait for each lock.
        tables: on which locks are to be looked for meanwhile, where they cannot be told at the end.
        hooks: of :class:`Run`.

    Returns:
        The locks that were seen on ``tables``.

    Raises:
        LockedError: a table was held by somebody else, who is named.
        MigrationError: a migration failed, which is named. What stands now the caller has to say.
    """
    watching = _Watching(steps, context, hooks.pop("before", _nothing), tables or {})
    how = Run(
        context, lock_timeout, together, watching.start, before=watching.begin, **hooks
    )  # fmt: skip
    try:
        with session(database, application=context.application) as observer:
            run_together(
                [lambda _: migrator.run(database, steps, how)],
                context.check_cancelled,
                watch=lambda: watching.look(observer),
                interrupt=watching.interrupt,
                every=min(_LOOK_SECONDS, lock_timeout / 4),
            )
    except DbopsError:
        raise
    except Exception as error:
        raise _failure(error, watching, lock_timeout) from error
    return watching.sampled


def apply_pending(
    migrator: Migrator,
    database: ConnectionParams,
    context: OperationContext,
    finish: Callable[[Connection], None] = _no_end,
) -> tuple[str, ...]:
    """Apply what is pending in a database that is just being made: in one transaction, if it can
    be, ``finish`` included. Raises what :func:`run_steps` raises."""
    steps = migrator.plan(database)
    if steps:
        together = all(step.atomic for step in steps)
        run_steps(migrator, database, steps, context, together=together, finish=finish)
    return tuple(step.label for step in steps)


def _failure(error: Exception, watching: _Watching, lock_timeout: float) -> DbopsError:
    label = watching.step.label if watching.step else "The migration"
    cause = error.__cause__ if isinstance(error.__cause__, psycopg2.Error) else error
    if isinstance(cause, errors.LockNotAvailable):
        held = watching.blocker
        what = f"{held.relation}, held by {held}" if held else "a table another session holds"
        return LockedError(
            f"{label} waited {lock_timeout:g} s for {what}.",
            hint=f"End that session or wait for it, then run it again; --lock-timeout "
            f"{math.ceil(lock_timeout * 6)} waits longer.",
        )
    hint = ""
    if isinstance(cause, errors.UnsafeNewEnumValueUsage) or "shared memory" in str(cause):
        hint = "Migrations that cannot share one transaction: --aside commits each by itself."
    said = first_line(cause) if isinstance(cause, psycopg2.Error) else _said(cause)
    return MigrationError(f"{label} failed: {said.rstrip('.')}.", hint=hint)


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
