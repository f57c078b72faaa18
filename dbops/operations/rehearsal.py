"""Migrations tried on a copy of the target: locks, duration, rows written, and the way back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dbops.exceptions import DbopsError, OperationCancelled
from dbops.operations.context import OperationContext
from dbops.operations.copy_aside import CopyOptions, copied_aside
from dbops.operations.guards import Endpoint
from dbops.operations.migration_run import Migrator, Step, run_steps
from dbops.operations.replacement import drop_built
from dbops.postgres import triggers
from dbops.postgres.connection import Connection, session
from dbops.postgres.footprint import Footprint, look_at_tables, take_footprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.structure import Definition, Identity, read_structure

_NAMED = 5
Structure = Mapping[Identity, Definition]


@dataclass(frozen=True)
class RehearsedStep:
    """What one migration did to the copy."""

    migration: str
    atomic: bool
    seconds: float = 0.0
    locks: Mapping[str, str] | None = None
    """The strongest lock on each table, by "schema.table"."""
    locks_exact: bool = False
    """All of them; False where they were only looked at now and then, as it is not atomic."""
    rewritten: Mapping[str, int] | None = None
    """Rows of each table that was written anew."""
    rows: Mapping[str, Mapping[str, int]] | None = None
    """Rows inserted, updated, deleted, by table; None where that cannot be told."""
    rolls_back: bool | None = None
    """Undone and applied again, both to what was there before; None where it was not tried."""
    rollback_problem: str = ""
    error: str = ""


@dataclass(frozen=True)
class Rehearsal:
    """How the whole plan went."""

    ok: bool
    seconds: float
    """From the beginning of the copy."""
    migrations: tuple[RehearsedStep, ...]
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return asdict(self)


def rehearse(
    migrator: Migrator,
    endpoint: Endpoint,
    steps: Sequence[Step],
    options: CopyOptions,
    wishes: triggers.Wishes,
    context: OperationContext,
) -> Rehearsal:
    """Run the plan on a copy, which is dropped afterwards; the database itself is only read.

    A plan that fails is a result, not an error.

    Raises:
        PrivilegeError, SpaceError, StatementError, ProofError: there is no copy to rehearse on.
    """
    began = time.monotonic()
    context.step("copy for the rehearsal")
    with copied_aside(endpoint, options, context) as replacement:
        trial = _Trial(migrator, replacement.incoming, wishes, context)
        problem = trial.go(steps)
        if not problem and not any(step.backwards for step in steps):
            trial.go_back(steps)
        drop_built(replacement, context)
    seconds = round(time.monotonic() - began, 3)
    return Rehearsal(not problem, seconds, tuple(trial.done), problem)


class _Trial:
    """The copy, and what has been done to it."""

    def __init__(
        self,
        migrator: Migrator,
        copy: ConnectionParams,
        wishes: triggers.Wishes,
        context: OperationContext,
    ) -> None:
        self.done: list[RehearsedStep] = []
        self._migrator, self._copy, self._context = migrator, copy, context
        self._wishes = wishes
        self._structures = [self._read()]
        """Before the first step, and after each."""

    def go(self, steps: Sequence[Step]) -> str:
        """Do them all, measured, then what follows in earnest; why that failed, or ""."""
        for step in steps:
            if error := self._failing(self._measure, step):
                self.done.append(RehearsedStep(step.label, step.atomic, error=error))
                return error
            self._structures.append(self._read())
        if error := self._failing(self._install_triggers):
            return f"The triggers could not be installed: {error}"
        return ""

    def go_back(self, steps: Sequence[Step]) -> None:
        """Undo one after the other as far as that works, and do again what was undone."""
        undone = 0
        for place, step in reversed(list(enumerate(steps))):
            problem = f"irreversible: {step.irreversible}" if step.irreversible else ""
            problem = problem or self._failing(self._run, replace(step, backwards=True))
            if not problem and (found := differences(self._structures[place], self._read())):
                problem = f"it leaves another schema: {found}"
            self._note(place, problem)
            if problem:
                break
            undone += 1
        for place in range(len(steps) - undone, len(steps)):
            step = steps[place]
            if problem := self._failing(self._run, step):
                self._note(place, f"it cannot be applied again: {problem}")
                return
            if found := differences(self._structures[place + 1], self._read()):
                self._note(place, f"applied again it makes another schema: {found}")
                return

    def _note(self, place: int, problem: str) -> None:
        told = self.done[place]
        self.done[place] = replace(told, rolls_back=not problem, rollback_problem=problem)

    def _failing(self, work: Callable[..., object], *given: Step) -> str:
        """Why it failed, or ""."""
        try:
            work(*given)
        except OperationCancelled:
            raise
        except DbopsError as error:
            return str(error)
        return ""

    def _install_triggers(self) -> None:
        with session(self._copy, actor=self._context.actor) as connection:
            triggers.install(connection, self._wishes, poll=self._context.check_cancelled)

    def _measure(self, step: Step) -> None:
        with session(self._copy) as looking:
            tables = look_at_tables(looking)
        began, seconds = time.monotonic(), 0.0
        footprint = Footprint({}, {}, {})

        def before(connection: Connection, _: Step) -> None:
            nonlocal began, tables
            tables = look_at_tables(connection)
            began = time.monotonic()

        def after(connection: Connection, _: Step) -> None:
            nonlocal seconds, footprint
            seconds = time.monotonic() - began
            footprint = take_footprint(connection, tables)

        seen = self._run(step, before=before, after=after, tables={} if step.atomic else tables)
        self.done.append(RehearsedStep(
            step.label,
            step.atomic,
            seconds=round(seconds, 3),
            locks=footprint.locks if step.atomic else seen,
            locks_exact=step.atomic,
            rewritten=footprint.rewritten,
            rows=footprint.written if step.atomic else None,
        ))  # fmt: skip

    def _run(self, step: Step, **options: Any) -> Mapping[str, str]:
        return run_steps(
            self._migrator, self._copy, [step], self._context,
            together=False, announce=False, **options,
        )  # fmt: skip

    def _read(self) -> Structure:
        with session(self._copy, application=self._context.application) as connection:
            return read_structure(connection, self._context.check_cancelled)


def differences(before: Structure, after: Structure) -> str:
    """What differs, by name, the first few; "" where nothing does."""
    found = sorted(
        " ".join(it) for it in before.keys() | after.keys() if before.get(it) != after.get(it)
    )
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more
