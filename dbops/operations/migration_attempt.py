"""One attempt at migrating the real database, and what stands when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dbops.exceptions import DbopsError, MigrationError, OperationCancelled
from dbops.operations.context import OperationContext
from dbops.operations.copy_aside import copied_aside, keep_history
from dbops.operations.guards import Endpoint
from dbops.operations.holding import written_by_nobody
from dbops.operations.migration_request import MigrateRequest
from dbops.operations.migration_run import Step, run_steps
from dbops.operations.rehearsal import Structure, differences
from dbops.operations.replacement import Swapped, swap_in
from dbops.postgres import catalog, triggers
from dbops.postgres.connection import Connection, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.structure import read_structure


@dataclass(frozen=True)
class Done:
    """What an attempt did."""

    way: str
    triggers: int
    swapped: Swapped = field(default_factory=lambda: Swapped(0.0, None))


@dataclass(frozen=True)
class Attempt:
    """One attempt at the real database."""

    request: MigrateRequest
    endpoint: Endpoint
    steps: Sequence[Step]
    saved_as: str | None
    context: OperationContext

    def go(self) -> Done:
        ways = {"in place": self._in_place, "aside": self._aside, "together": self._together}
        return ways[self.request.way_of(self.steps)]()

    def _together(self) -> Done:
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
        return Done("together", installed)

    def _aside(self) -> Done:
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
        return Done("aside", installed, outcome)

    def _in_place(self) -> Done:
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
        return Done("in place", installed)

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
