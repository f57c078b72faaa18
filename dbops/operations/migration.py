"""Applying and undoing migrations: all of them, or the target is exactly as it was.

Three ways, told apart in ``docs/decisions/0015-migrations-that-can-be-undone.md``: all in one
transaction; on a copy that then takes the target's place; or, asked for, one by one where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dbops.exceptions import IrreversibleError, MigrationError, RehearsalError
from dbops.operations.context import OperationContext
from dbops.operations.copy_aside import require_can_copy
from dbops.operations.guards import Endpoint, inspect_endpoint
from dbops.operations.maintenance import prepare_migration
from dbops.operations.migration_attempt import Attempt
from dbops.operations.migration_request import MigrateRequest
from dbops.operations.migration_run import Migrator, Step
from dbops.operations.rehearsal import rehearse
from dbops.postgres.params import ConnectionParams


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
    if why := request.why_a_copy(steps):
        require_can_copy(endpoint, why, request.without_a_copy(steps))
    rehearsed = _rehearse(request, endpoint, steps, context)
    if request.only_rehearse:
        return MigrateResult(name, (), rehearsal=rehearsed)
    saved_as = request.save() if request.save else None
    attempt = Attempt(request, endpoint, steps, saved_as, context)
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
