"""Bringing an environment's database into being."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dbops.exceptions import StampError
from dbops.operations.context import OperationContext
from dbops.operations.guards import check_stamp, inspect_endpoint, require_existing
from dbops.postgres import triggers
from dbops.postgres.connection import Connection, session
from dbops.postgres.database_properties import create_database
from dbops.postgres.databases import MAINTENANCE, drop_database
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp, write_stamp
from dbops.postgres.triggers import Wishes

Finish = Callable[[Connection], None]


@dataclass(frozen=True)
class InitRequest:
    """Which database to bring up."""

    database: ConnectionParams
    environment: str
    migrate: Callable[[Finish], None]
    """Applies Django's migrations to it; Django lives above this layer. Where there are any, what
    it is given comes last in their transaction."""
    adopt: bool = False
    """Take in a database that already holds tables."""
    triggers: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class InitResult:
    """What was done."""

    database: str
    created: bool
    adopted: bool
    triggers: int


def init_db(request: InitRequest, context: OperationContext) -> InitResult:
    """Create the database if absent, migrate it, stamp it, install the triggers: all in one
    transaction, if the migrations can be.

    Raises:
        StampError: it holds tables and ``adopt`` was not asked for, or it belongs elsewhere.
    """
    name = request.database.database
    endpoint = inspect_endpoint(request.database, request.environment)
    created = endpoint.database is None
    if created:
        context.step("create")
        with session(request.database.with_database(MAINTENANCE)) as control:
            create_database(control, name, None)
    adopted = False
    if not created:
        adopted = _adopt(request, lambda: check_stamp(endpoint, writing=True))
    try:
        installed = _fill(request, context)
    except BaseException:
        if created:
            with session(request.database.with_database(MAINTENANCE)) as control:
                drop_database(control, name)
        raise
    return InitResult(name, created, adopted, installed)


def _fill(request: InitRequest, context: OperationContext) -> int:
    installed: list[int] = []

    def finish(connection: Connection) -> None:
        context.step("triggers")
        write_stamp(connection, request.environment)
        poll = context.check_cancelled
        installed.append(triggers.install(connection, request.triggers, poll=poll).triggers)
        context.begin_commit()

    context.step("migrate")
    request.migrate(finish)
    if not installed:
        with session(
            request.database, application=context.application, actor=context.actor
        ) as connection:
            connection.autocommit = False
            finish(connection)
            connection.commit()
    return installed[0]


def _adopt(request: InitRequest, check: Callable[[], None]) -> bool:
    """True where tables that bore no stamp are taken in now."""
    try:
        check()
        return False
    except StampError:
        with session(request.database) as connection:
            foreign = read_stamp(connection) is not None
        if foreign or not request.adopt:
            raise
        return True


def prepare_migration(database: ConnectionParams, environment: str, *, writing: bool) -> None:
    """See that the database is the environment's before Django migrates it.

    An empty one is stamped now: once it holds tables it could not be told from one that was made
    for something else.

    Raises:
        PreflightError: it does not exist.
        StampError: it belongs elsewhere, or holds tables and was never taken in.
    """
    endpoint = inspect_endpoint(database, environment)
    require_existing(endpoint)
    check_stamp(endpoint, writing=writing)
    if writing:
        with session(database) as connection:
            if read_stamp(connection) is None:
                write_stamp(connection, environment)
