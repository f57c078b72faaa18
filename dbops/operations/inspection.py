"""Looking at databases without writing: what the dashboard and confirmation pages show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from dbops.exceptions import DbopsError, NothingToUndoError
from dbops.operations.at_once import PATIENCE, answers_within, silence, why_unreachable
from dbops.operations.guards import (
    Endpoint,
    check_stamp,
    inspect_endpoint,
    require_can_replace,
    require_existing,
)
from dbops.postgres import catalog
from dbops.postgres.connection import execute, fetch_row, session
from dbops.postgres.databases import DatabaseFacts, find_kept
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp
from dbops.postgres.triggers import Wishes


@dataclass(frozen=True)
class InspectRequest:
    """Which environment to look at."""

    environment: str
    database: ConnectionParams
    triggers: Wishes = field(default_factory=Wishes)
    """Which there should be."""


@dataclass(frozen=True)
class EnvironmentFacts:
    """One environment at a glance."""

    environment: str
    label: str
    """``host:port/database``: neither user nor password."""
    problem: str = ""
    """Why it cannot be reached; "" where it can."""
    version: str = ""
    size: int = 0
    """Bytes."""
    tables: int = 0
    stamp: str | None = None

    @property
    def reachable(self) -> bool:
        return not self.problem


def inspect_environments(
    requests: Sequence[InspectRequest], patience: float = PATIENCE
) -> list[EnvironmentFacts]:
    """Look at several environments at once, and at none for longer than ``patience`` seconds."""
    questions = {each.environment: partial(inspect_environment, each) for each in requests}
    found = answers_within(patience, questions)
    return [
        found.get(each.environment)
        or EnvironmentFacts(each.environment, server_label(each.database), silence(patience))
        for each in requests
    ]


def inspect_environment(request: InspectRequest) -> EnvironmentFacts:
    """Look at one environment; one that cannot be reached says so instead of raising."""
    label = server_label(request.database)
    try:
        with session(request.database) as connection:
            execute(connection, f"SET statement_timeout = {round(PATIENCE * 1000)}")
            row = fetch_row(
                connection,
                "SELECT current_setting('server_version'), pg_database_size(current_database())",
            )
            version, size = row or ("", 0)
            return EnvironmentFacts(
                request.environment,
                label,
                version=str(version).split()[0],
                size=int(size),
                tables=len(catalog.tables(connection)),
                stamp=read_stamp(connection),
            )
    except DbopsError as error:
        return EnvironmentFacts(request.environment, label, why_unreachable(error))


def server_label(params: ConnectionParams) -> str:
    """``host:port/database``."""
    return f"{params.address}/{params.database}"


def plan_in_place(request: InspectRequest, *, writing: bool) -> Endpoint:
    """The database to be read, or changed where it stands.

    Raises:
        ConnectionFailedError, PreflightError, StampError: that would be refused.
    """
    endpoint = inspect_endpoint(request.database, request.environment)
    require_existing(endpoint)
    check_stamp(endpoint, writing=writing)
    return endpoint


def plan_replacement(request: InspectRequest) -> Endpoint:
    """The database, if there is one, whose place another is to take.

    Raises:
        ConnectionFailedError, PrivilegeError, StampError: replacing it would be refused.
    """
    endpoint = inspect_endpoint(request.database, request.environment)
    check_stamp(endpoint, writing=True)
    require_can_replace(endpoint)
    return endpoint


def find_previous(request: InspectRequest, operation: str) -> DatabaseFacts:
    """The database that ``operation`` replaced. Raises NothingToUndoError."""
    facts = find_kept(request.database, operation)
    if facts is None:
        raise NothingToUndoError(
            f"The {request.environment} database that operation {operation} replaced is no "
            f"longer kept."
        )
    return facts
