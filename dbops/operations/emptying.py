"""Emptying a database: an empty one is built aside, furnished, proven, and swapped in. The old one
is kept whole for an undo, and a backup of it was made before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dbops.exceptions import DbopsError, PreflightError, ProofError
from dbops.operations.context import OperationContext
from dbops.operations.guards import (
    Endpoint,
    Preflight,
    check_stamp,
    inspect_endpoint,
    require_can_replace,
    require_existing,
)
from dbops.operations.replacement import Replacement, building, settle, swap_in
from dbops.postgres import catalog, triggers
from dbops.postgres.connection import execute, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.rooms import read_rooms
from dbops.postgres.stamp import read_stamp, write_stamp
from dbops.postgres.triggers import Wishes

Migrate = Callable[[ConnectionParams], None]


@dataclass(frozen=True)
class EmptyRequest:
    """Which database to empty."""

    database: ConnectionParams
    environment: str
    save: Callable[[], str]
    """Backs it up first and returns the backup's name; what it raises ends the operation."""
    migrate: Migrate | None = None
    """Applies Django's migrations to a database of another name; None leaves it without tables."""
    triggers: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class EmptyResult:
    """What was done."""

    database: str
    previous: str | None
    saved_as: str
    tables: int
    """How many are gone."""
    migrations: int
    triggers: int
    outage_ms: float


def reset_db(request: EmptyRequest, context: OperationContext) -> EmptyResult:
    """Back up, then empty and initialise: migrations, triggers, stamp.

    Raises:
        PreflightError, PrivilegeError, StampError: nothing was begun.
        DbopsError: the backup, a migration or the proof failed; the target is as it was.
    """
    assert request.migrate is not None
    return _replace(request, context)


def drop_all_tables(request: EmptyRequest, context: OperationContext) -> EmptyResult:
    """Back up, then leave nothing of what users made but schemas, extensions, default privileges.

    Raises: as :func:`reset_db`.
    """
    assert request.migrate is None
    return _replace(request, context)


def _replace(request: EmptyRequest, context: OperationContext) -> EmptyResult:
    context.step("preflight")
    endpoint = _require_replaceable(request)
    with session(request.database) as connection:
        rooms = read_rooms(connection)
        tables = len(catalog.tables(connection))
        preflight = Preflight()
        preflight.require_extensions(connection, catalog.extensions(connection))
        preflight.check()
    saved_as = request.save()
    with building(endpoint, context) as replacement:
        context.step("build")
        replacement.create_empty()
        _furnish(replacement, rooms)
        installed = _fill(replacement, request, context) if request.migrate else 0
        settle(replacement, context, unmasked="")
        migrations = _prove(replacement, request, context)
        swapped = swap_in(replacement, context)
    return EmptyResult(
        request.database.database, swapped.previous, saved_as, tables, migrations, installed,
        round(swapped.outage_ms, 1),
    )  # fmt: skip


def _require_replaceable(request: EmptyRequest) -> Endpoint:
    endpoint = inspect_endpoint(request.database, request.environment)
    require_existing(endpoint)
    check_stamp(endpoint, writing=True)
    require_can_replace(endpoint)
    return endpoint


def _furnish(replacement: Replacement, rooms: list[str]) -> None:
    with session(replacement.incoming) as connection:
        for statement in rooms:
            try:
                execute(connection, statement)
            except DbopsError as error:
                raise PreflightError(
                    f"An empty database cannot be given what the old one has ({statement}): {error}"
                ) from error


def _fill(replacement: Replacement, request: EmptyRequest, context: OperationContext) -> int:
    assert request.migrate is not None
    with session(replacement.incoming, actor=context.actor) as connection:
        write_stamp(connection, request.environment)
        context.step("migrate")
        request.migrate(replacement.incoming)
        context.step("triggers")
        return triggers.install(connection, request.triggers, poll=context.check_cancelled).triggers


def _prove(replacement: Replacement, request: EmptyRequest, context: OperationContext) -> int:
    """How many migrations are applied. Raises ProofError."""
    context.step("prove")
    with session(replacement.incoming, application=context.application) as connection:
        stamp = read_stamp(connection)
        tables = len(catalog.tables(connection))
        applied = len(catalog.applied_migrations(connection))
        drift = triggers.status(connection, request.triggers).drift
    wanted = bool(request.migrate)
    if stamp != request.environment or bool(tables) != wanted or (wanted and drift):
        raise ProofError(
            f"What was built is not as it should be: stamp {stamp}, {tables} tables, "
            f"triggers {'drifted' if drift else 'in place'}."
        )
    return applied
