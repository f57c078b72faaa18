"""Installing the triggers of an environment's database, and telling whether they are in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dbops.operations.context import OperationContext
from dbops.operations.guards import check_stamp, inspect_endpoint, require_existing
from dbops.postgres import triggers
from dbops.postgres.connection import session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp, write_stamp
from dbops.postgres.triggers import Replaced, Wishes
from dbops.postgres.triggers.trial import fire_all

# What is found and done there is told as it is.
ApplyTriggersResult = triggers.Installation
RemoveTriggersResult = triggers.Removal
VerifyTriggersResult = triggers.TriggerStatus


@dataclass(frozen=True)
class ApplyTriggersRequest:
    """Where to install, and what."""

    database: ConnectionParams
    environment: str
    schemas: tuple[str, ...] | None = None
    """Only tables of these; None for every schema."""
    base_only: bool = False
    """The functions alone."""
    wishes: Wishes = field(default_factory=Wishes)
    replace_legacy: bool = False
    """Triggers of the earlier system give way where ours do their work."""
    record: Callable[[Replaced], None] = triggers.record_nothing
    """Keeps what gives way before it is done for good."""
    dry_run: bool = False


@dataclass(frozen=True)
class RemoveTriggersRequest:
    """Where to take all of ours off."""

    database: ConnectionParams
    environment: str
    schemas: tuple[str, ...] | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class VerifyTriggersRequest:
    """Where to look."""

    database: ConnectionParams
    environment: str
    wishes: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class PutTriggersBackRequest:
    """What gave way to ours, and where."""

    database: ConnectionParams
    environment: str
    replaced: Replaced
    operation: str
    """Id of the operation in which it did."""


@dataclass(frozen=True)
class PutTriggersBackResult:
    """What an undo of triggers tells, beside other undos."""

    database: str
    undone: str
    triggers: int
    previous: str | None = None
    outage_ms: float = 0.0


@dataclass(frozen=True)
class TryTriggersRequest:
    """Which triggers to fire."""

    database: ConnectionParams
    environment: str
    schemas: tuple[str, ...] | None = None
    wishes: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class TryTriggersResult:
    """Each trigger of ours as "schema.table: trigger", with the reason in brackets."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    untested: tuple[str, ...]


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
        if request.dry_run:
            found = triggers.plan(connection, request.wishes, **_scope(request))
        else:
            context.step("install triggers")
            found = triggers.install(
                connection,
                request.wishes,
                **_scope(request),
                record=request.record,
                poll=context.check_cancelled,
                finish=context.begin_commit,
            )
            if read_stamp(connection) is None:
                write_stamp(connection, request.environment)
    for skipped in found.skipped:
        context.log(f"skipped {skipped}")
    return found if request.dry_run else replace(found, statements=())


def _scope(request: ApplyTriggersRequest) -> dict[str, Any]:
    return {
        "schemas": request.schemas,
        "base_only": request.base_only,
        "replace_legacy": request.replace_legacy,
    }


def remove_triggers(
    request: RemoveTriggersRequest, context: OperationContext
) -> RemoveTriggersResult:
    """Take all triggers of ours off, and all functions that nobody needs: all of it, or nothing.
    A row history that holds rows stays.

    Raises:
        as :func:`apply_triggers`.
    """
    context.step("preflight")
    _check(request.database, request.environment, writing=True)
    with session(
        request.database, application=context.application, actor=context.actor
    ) as connection:
        context.step("remove triggers")
        found = triggers.remove(
            connection,
            schemas=request.schemas,
            dry_run=request.dry_run,
            poll=context.check_cancelled,
            finish=context.begin_commit,
        )
    for kept in found.kept:
        context.log(f"kept: {kept}")
    return found if request.dry_run else replace(found, statements=())


def put_triggers_back(
    request: PutTriggersBackRequest, context: OperationContext
) -> PutTriggersBackResult:
    """Triggers of the earlier system back in the place of ours: all of them, or none.

    Raises:
        PreflightError: the database has changed so that they cannot come back as they were.
        StampError, PrivilegeError, LockedError, StatementError: nothing was put back.
    """
    context.step("preflight")
    _check(request.database, request.environment, writing=True)
    with session(
        request.database, application=context.application, actor=context.actor
    ) as connection:
        context.step("put triggers back")
        poll, finish = context.check_cancelled, context.begin_commit
        count = triggers.put_back(connection, request.replaced, poll=poll, finish=finish)
    return PutTriggersBackResult(request.database.database, request.operation, count)


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
        return triggers.status(connection, request.wishes)


def try_triggers(request: TryTriggersRequest, context: OperationContext) -> TryTriggersResult:
    """Fire every trigger of ours on a real row, in transactions that are rolled back; what failed
    is a result, not an error.

    Raises:
        StampError: the database belongs to another environment.
        PreflightError: it, or a schema asked for, does not exist.
    """
    context.step("preflight")
    _check(request.database, request.environment, writing=False)
    with session(request.database, application=context.application) as connection:
        trials = fire_all(
            connection,
            request.wishes,
            schemas=request.schemas,
            poll=context.check_cancelled,
            step=lambda done, total: context.step("test triggers", done, total),
        )
    told = {
        outcome: tuple(
            f"{it.label} ({it.reason})" if it.reason else it.label
            for it in trials
            if it.outcome == outcome
        )
        for outcome in ("passed", "failed", "untested")
    }
    for outcome in ("failed", "untested"):
        for line in told[outcome]:
            context.log(f"{outcome}: {line}")
    return TryTriggersResult(**told)


def _check(database: ConnectionParams, environment: str, *, writing: bool) -> None:
    endpoint = inspect_endpoint(database, environment)
    require_existing(endpoint)
    check_stamp(endpoint, writing=writing)
