"""Applying and undoing migrations: all of them, or the target is exactly as it was.

Three ways, told apart in ``docs/decisions/0015-migrations-that-can-be-undone.md``: all in one
transaction; on a copy that then takes the target's place; or, asked for, one by one where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dbops.exceptions import (
    DbopsError,
    IrreversibleError,
    MigrationError,
    OperationCancelled,
    RehearsalError,
)
from dbops.operations.context import OperationContext
from dbops.operations.copy_aside import CopyOptions, copied_aside, keep_history
from dbops.operations.guards import Endpoint, inspect_endpoint
from dbops.operations.holding import written_by_nobody
from dbops.operations.maintenance import prepare_migration
from dbops.operations.migration_run import LOCK_TIMEOUT, Migrator, Step, run_steps
from dbops.operations.rehearsal import Structure, differences, rehearse
from dbops.operations.replacement import Swapped, swap_in
from dbops.postgres import catalog, triggers
from dbops.postgres.connection import Connection, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.structure import read_structure
from dbops.postgres.triggers import Wishes

WAYS = ("auto", "aside", "in_place")


@dataclass(frozen=True)
class MigrateRequest:
    """Which database to migrate, by what, and with how much care."""

    database: ConnectionParams
    environment: str
    migrator: Migrator
    save: Callable[[], str] | None = None
    """Backs the database up; None where none is wanted."""
    rehearse: bool = False
    only_rehearse: bool = False
    way: str = "auto"
    lock_timeout: float = LOCK_TIMEOUT
    copy: CopyOptions = field(default_factory=CopyOptions)
    expected: tuple[str, ...] | None = None
    """What somebody agreed to; None where nobody was asked."""
    triggers: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class MigrateResult:
    """What was done."""

    database: str
    migrations: tuple[str, ...]
    """In the order in which they were applied, or undone: "app.name"."""
    way: str | None = None
    """``together``, ``aside`` or ``in place``; None where nothing was done."""
    saved_as: str | None = None
    triggers: int = 0
    outage_ms: float = 0.0
    previous: str | None = None
    """The database that a migrated copy replaced."""
    rehearsal: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class _Done:
    way: str
    triggers: int
    swapped: Swapped = field(default_factory=lambda: Swapped(0.0, None))


def apply_migration(request: MigrateRequest, context: OperationContext) -> MigrateResult:
    """Apply what is pending, triggers included.

    Raises:
        StampError, PreflightError: the database is not the environment's, or does not exist.
        RehearsalError: it did not work on a copy; the target was not touched.
        LockedError, MigrationError: a migration failed; the sentence says what stands now.
    """
    return _migrate(request, context)


def rollback_migration(request: MigrateRequest, context: OperationContext) -> MigrateResult:
    """Undo what the migrator plans to undo, with everything that depends on it.

    Raises:
        IrreversibleError: one of them cannot be undone; nothing was touched.
        and what :func:`apply_migration` raises.
    """
    return _migrate(request, context)


def plan_migration(
    migrator: Migrator, database: ConnectionParams, environment: str
) -> tuple[Step, ...]:
    """What would be done, for whoever has to agree to it. Nothing is written.

    Raises:
        StampError, PreflightError, IrreversibleError, MigrationError: it would be refused.
    """
    prepare_migration(database, environment, writing=False)
    steps = migrator.plan(database)
    _require_reversible(steps)
    return steps


def _migrate(request: MigrateRequest, context: OperationContext) -> MigrateResult:
    context.step("preflight")
    if not request.only_rehearse:
        prepare_migration(request.database, request.environment, writing=True)
    steps = plan_migration(request.migrator, request.database, request.environment)
    if request.expected not in (None, tuple(step.label for step in steps)):
        raise MigrationError(
            f"Meanwhile somebody else migrated {request.environment}. Nothing was touched.",
            hint=f"See what stands: python manage.py show_migrations --env {request.environment}",
        )
    endpoint = inspect_endpoint(request.database, request.environment)
    name = request.database.database
    if not steps:
        context.log(f"Nothing to do in {request.environment}")
        return MigrateResult(name, ())
    rehearsed = _rehearse(request, endpoint, steps, context)
    if request.only_rehearse:
        return MigrateResult(name, (), rehearsal=rehearsed)
    saved_as = request.save() if request.save else None
    attempt = _Attempt(request, endpoint, steps, saved_as, context)
    done = attempt.go()
    return MigrateResult(
        name,
        tuple(step.label for step in steps),
        done.way,
        saved_as,
        done.triggers,
        round(done.swapped.outage_ms, 1),
        done.swapped.previous,
        rehearsed,
    )


def _require_reversible(steps: Sequence[Step]) -> None:
    stuck = [f"{it.label} ({it.irreversible})" for it in steps if it.backwards and it.irreversible]
    if stuck:
        raise IrreversibleError(
            f"Cannot be undone: {', '.join(stuck)}. Nothing was touched.",
            hint="A backup made before it brings that state back: python manage.py listbackups",
        )


def _rehearse(
    request: MigrateRequest, endpoint: Endpoint, steps: Sequence[Step], context: OperationContext
) -> Mapping[str, Any] | None:
    if not (request.rehearse or request.only_rehearse):
        return None
    found = rehearse(request.migrator, endpoint, steps, request.copy, request.triggers, context)
    if not found.ok:
        raise RehearsalError(
            f"The rehearsal failed: {found.problem} {request.environment} was not touched.",
            hint="Mend the migration, and rehearse it: python manage.py apply_migration "
            f"--env {request.environment} --rehearse",
            result={"migrations": [], "rehearsal": asdict(found)},
        )
    return asdict(found)


@dataclass(frozen=True)
class _Attempt:
    """One attempt at the real database."""

    request: MigrateRequest
    endpoint: Endpoint
    steps: Sequence[Step]
    saved_as: str | None
    context: OperationContext

    def go(self) -> _Done:
        way = self.request.way
        if way == "in_place":
            return self._in_place()
        if way == "aside" or not all(step.atomic for step in self.steps):
            return self._aside()
        return self._together()

    def _together(self) -> _Done:
        """In one transaction, which the triggers are part of."""
        database, context = self.request.database, self.context
        before, installed = _applied(database), 0

        def finish(connection: Connection) -> None:
            nonlocal installed
            installed = self._install(connection)
            context.begin_commit()

        try:
            self._run(database, together=True, finish=finish)
        except (DbopsError, KeyboardInterrupt) as error:
            after = _applied_or_unknown(database)
            if after == before:
                raise self._told(error, "rolled back", _AS_IT_WAS) from error
            if after is None:  # a connection lost at COMMIT does not tell
                raise self._told(error, "unknown", _UNKNOWN) from error
            raise self._told(error, "left", _COMMITTED) from error
        return _Done("together", installed)

    def _aside(self) -> _Done:
        """On a copy, while nobody writes to the original, which it then replaces."""
        request, context = self.request, self.context
        non_atomic = [step.label for step in self.steps if not step.atomic]
        if non_atomic:
            context.log(f"On a copy, as {', '.join(non_atomic)} cannot be rolled back")
        swapped = False
        try:
            with (
                written_by_nobody(request.database, request.environment, ("*",), context),
                copied_aside(self.endpoint, request.copy, context) as replacement,
            ):
                keep_history(request.database, replacement.incoming, context)
                tables = _tables(request.database)
                self._run(replacement.incoming, together=False)
                with session(replacement.incoming, actor=context.actor) as connection:
                    installed = self._install(connection)
                if _tables(request.database) != tables:
                    raise MigrationError("Meanwhile somebody made or dropped tables.")
                outcome = swap_in(replacement, context)
                swapped = True
        except (DbopsError, KeyboardInterrupt) as error:
            if swapped:
                raise
            raise self._told(error, "copy dropped", _NEVER_TOUCHED) from error
        return _Done("aside", installed, outcome)

    def _in_place(self) -> _Done:
        """Each commits by itself; what was done when one fails, stays."""
        database, context = self.request.database, self.context
        before = _applied(database)
        seen: list[Structure] = []

        def remember(connection: Connection, step: Step) -> None:
            if not step.atomic:
                seen[:] = [_structure(database, context)]

        try:
            self._run(database, together=False, before=remember)
            with session(database, actor=context.actor) as connection:
                installed = self._install(connection)
        except (DbopsError, KeyboardInterrupt) as error:
            after = _applied_or_unknown(database)
            if after is None:
                raise self._told(error, "unknown", _UNKNOWN) from error
            done = sorted(after ^ before)
            if not done and not seen:
                raise self._told(error, "rolled back", _AS_IT_WAS) from error
            raise self._told(error, "left", self._left(done, seen)) from error
        return _Done("in place", installed)

    def _install(self, connection: Connection) -> int:
        self.context.step("triggers")
        poll = self.context.check_cancelled
        return triggers.install(connection, self.request.triggers, poll=poll).triggers

    def _run(self, database: ConnectionParams, **options: Any) -> None:
        timeout = self.request.lock_timeout
        run_steps(
            self.request.migrator, database, self.steps, self.context,
            lock_timeout=timeout, **options,
        )  # fmt: skip

    def _left(self, done: list[str], seen: list[Structure]) -> str:
        """What stands after a failure half-way, and whether rows and schema agree."""
        backwards = self.steps[0].backwards
        what = ", ".join(done) or "none"
        sentence = f"Left where it stopped: {'undone' if backwards else 'applied'} is {what}; "
        # What a migration that is not atomic has done before it failed no transaction takes back.
        rest = ""
        failed = next((it for it in self.steps if it.label not in done), None)
        if seen and failed and not failed.atomic:
            now = _structure(self.request.database, self.context)
            rest = differences(seen[0], now)
        if rest:
            return sentence + f"of what failed there is left: {rest}."
        return sentence + "the schema agrees with that."

    def _told(self, error: BaseException, outcome: str, what: str) -> BaseException:
        """The same failure, with what stands now."""
        stopped = isinstance(error, OperationCancelled | KeyboardInterrupt)
        untouched = outcome in ("rolled back", "copy dropped")
        if stopped and untouched:
            return error  # which says so already
        sentence = what.format(environment=self.request.environment)
        result: dict[str, Any] = {"migrations": [], "outcome": outcome, "saved_as": self.saved_as}
        if stopped or not isinstance(error, DbopsError):
            # "Cancelled" would mean that the target is as it was.
            return MigrationError(f"Stopped. {sentence}", hint=self._way_back(), result=result)
        hint = error.hint if untouched else self._way_back()
        return type(error)(f"{str(error).rstrip('.')}. {sentence}", hint=hint, result=result)

    def _way_back(self) -> str:
        environment = self.request.environment
        look = f"See what stands: python manage.py show_migrations --env {environment}."
        if self.saved_as is None:
            return look
        return f"{look} What was there before: python manage.py dbrestore -d {environment} " + (
            f"-i {self.saved_as}"
        )


_AS_IT_WAS = "Everything was rolled back: {environment} is as it was."
_NEVER_TOUCHED = "It ran on a copy, which was dropped: {environment} is as it was."
_COMMITTED = "By then all of it was committed."
_UNKNOWN = "What was committed cannot be told: the server does not answer."


def _applied(database: ConnectionParams) -> set[str]:
    with session(database) as connection:
        return set(catalog.applied_migrations(connection))


def _applied_or_unknown(database: ConnectionParams) -> set[str] | None:
    """The same of a server that may not answer any more."""
    try:
        return _applied(database)
    except DbopsError:
        return None


def _tables(database: ConnectionParams) -> list[tuple[str, str]]:
    with session(database) as connection:
        return catalog.table_names(connection)


def _structure(database: ConnectionParams, context: OperationContext) -> Structure:
    with session(database, application=context.application) as connection:
        return read_structure(connection, lambda: None)
