"""Installing the triggers of an environment's database, and telling whether they are in place."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dbops.operations.context import OperationContext
from dbops.operations.guards import check_stamp, inspect_endpoint, require_existing
from dbops.postgres import triggers
from dbops.postgres.connection import session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp, write_stamp
from dbops.postgres.trigger_sets import TriggerSet, install_sets, set_status


@dataclass(frozen=True)
class ApplyTriggersRequest:
    """Where to install, and what."""

    database: ConnectionParams
    environment: str
    schemas: tuple[str, ...] | None = None
    """Only tables of these; None for every schema."""
    base_only: bool = False
    """The functions alone."""
    dry_run: bool = False
    sets: tuple[TriggerSet, ...] = ()
    """What apps bring for their own tables."""


@dataclass(frozen=True)
class ApplyTriggersResult:
    """What is in place now; after a dry run, what would be."""

    functions: int
    triggers: int
    tables: int
    skipped: tuple[str, ...]
    """Columns that cannot be served: "schema.table: column is type"."""
    statements: tuple[str, ...]
    """Of a dry run: what would be executed; none where all is in place already."""


@dataclass(frozen=True)
class VerifyTriggersRequest:
    """Where to look."""

    database: ConnectionParams
    environment: str
    sets: tuple[TriggerSet, ...] = ()


@dataclass(frozen=True)
class VerifyTriggersResult:
    """Triggers by state, each as "schema.table: trigger"."""

    installed: tuple[str, ...]
    outdated: tuple[str, ...]
    disabled: tuple[str, ...]
    missing: tuple[str, ...]
    foreign: tuple[str, ...]

    @property
    def drift(self) -> bool:
        """True where :func:`apply_triggers` would change a trigger; foreign ones are no drift."""
        return bool(self.outdated or self.disabled or self.missing)


def apply_base_triggers(
    request: ApplyTriggersRequest, context: OperationContext
) -> ApplyTriggersResult:
    """:func:`apply_triggers` for the functions alone: no table is touched."""
    return apply_triggers(replace(request, base_only=True), context)


def apply_triggers(request: ApplyTriggersRequest, context: OperationContext) -> ApplyTriggersResult:
    """Install functions and triggers on every table that has the columns: all of them, or none.

    Raises:
        StampError: the database belongs to another environment, or was never taken in.
        PreflightError: the database, or a schema asked for, does not exist.
        PrivilegeError, LockedError, StatementError: nothing was installed; the table is named.
    """
    context.step("preflight")
    _check(request.database, request.environment, writing=True)
    with session(
        request.database, application=context.application, actor=context.actor
    ) as connection:
        sets = () if request.base_only else _sets_of(request)
        brought = set_status(connection, sets)
        if request.dry_run:
            found = triggers.plan(connection, schemas=request.schemas, base_only=request.base_only)
        else:
            context.step("install triggers")
            found = triggers.install(
                connection,
                schemas=request.schemas,
                base_only=request.base_only,
                poll=context.check_cancelled,
                beside=lambda session: install_sets(session, sets),
            )
            if read_stamp(connection) is None:
                write_stamp(connection, request.environment)
    for skipped in found.skipped:
        context.log(f"skipped {skipped}")
    statements = (*found.statements, *brought.statements) if request.dry_run else ()
    return ApplyTriggersResult(
        found.functions,
        found.triggers + len(brought.labels),
        found.tables,
        found.skipped,
        statements,
    )


def _sets_of(request: ApplyTriggersRequest) -> tuple[TriggerSet, ...]:
    asked = request.schemas
    return tuple(it for it in request.sets if asked is None or it.schemas & set(asked))


def verify_triggers(
    request: VerifyTriggersRequest, context: OperationContext
) -> VerifyTriggersResult:
    """Compare the triggers that are with those that should be; drift is a result, not an error.

    Raises:
        StampError: the database belongs to another environment.
        PreflightError: it does not exist.
    """
    context.step("verify triggers")
    _check(request.database, request.environment, writing=False)
    with session(
        request.database, application=context.application, actor=context.actor
    ) as connection:
        found = triggers.status(connection)
        brought = set_status(connection, request.sets)
    states = brought.states
    return VerifyTriggersResult(
        (*found.installed, *states["installed"]),
        (*found.outdated, *states["outdated"]),
        (*found.disabled, *states["disabled"]),
        (*found.missing, *states["missing"]),
        tuple(label for label in found.foreign if label not in brought.labels),
    )


def _check(database: ConnectionParams, environment: str, *, writing: bool) -> None:
    endpoint = inspect_endpoint(database, environment)
    require_existing(endpoint)
    check_stamp(endpoint, writing=writing)
