"""What must hold before a database is written: the stamp, the privileges, the versions.

Everything that is wrong is collected and named at once, before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dbops.exceptions import PreflightError, PrivilegeError, StampError, VersionMismatchError
from dbops.postgres import catalog
from dbops.postgres.connection import Connection, session
from dbops.postgres.databases import (
    MAINTENANCE,
    DatabaseFacts,
    ServerFacts,
    database_facts,
    server_facts,
)
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp


@dataclass(frozen=True)
class Endpoint:
    """One environment's database as found: the server, and the database if it exists."""

    params: ConnectionParams
    environment: str
    server: ServerFacts
    database: DatabaseFacts | None

    @property
    def identity(self) -> tuple[str, int] | None:
        """What two names of one database share, whatever host or alias leads there."""
        return (self.server.system_identifier, self.database.oid) if self.database else None


def inspect_endpoint(params: ConnectionParams, environment: str) -> Endpoint:
    """Look, without writing. Raises ConnectionFailedError."""
    with session(params.with_database(MAINTENANCE)) as control:
        facts = database_facts(control, params.database)
        return Endpoint(params, environment, server_facts(control), facts)


def require_existing(endpoint: Endpoint) -> DatabaseFacts:
    """The database's facts. Raises PreflightError where there is none."""
    if endpoint.database is None:
        raise PreflightError(
            f"The {endpoint.environment} database {endpoint.params.database} does not exist.",
            hint=f"Create it: python manage.py init_db --env {endpoint.environment}",
        )
    return endpoint.database


def check_stamp(endpoint: Endpoint, *, writing: bool) -> None:
    """Refuse where settings and stamp disagree.

    Raises:
        StampError: it belongs to another environment, or is to be written, holds tables and bears
            no stamp at all.
    """
    if endpoint.database is None:
        return
    with session(endpoint.params) as connection:
        stamp = read_stamp(connection)
        unknown = stamp is None and not catalog.is_empty(connection)
    if stamp is not None and stamp != endpoint.environment:
        raise StampError(
            f"The settings call {endpoint.params.label} {endpoint.environment}, but the database "
            f"is stamped {stamp}.",
            hint="Are two URLs swapped? Look at DEV_, TEST_ and PROD_DATABASE_URL.",
        )
    if unknown and writing:
        raise StampError(
            f"{endpoint.params.label} holds tables but was never taken in as "
            f"{endpoint.environment}.",
            hint=f"If it is: python manage.py init_db --env {endpoint.environment} --adopt",
        )


def require_can_replace(endpoint: Endpoint) -> None:
    """Refuse where the connecting role cannot build a database aside.

    Raises:
        PrivilegeError: it lacks CREATEDB, or does not own the target.
    """
    role = endpoint.server.role
    if not endpoint.server.can_create_databases:
        raise PrivilegeError(
            f"Role {role} may not create databases, so nothing can be built aside.",
            hint=f"As a superuser, once: ALTER ROLE {role} CREATEDB",
        )
    with session(endpoint.params.with_database(MAINTENANCE)) as control:
        owner = endpoint.database.owner if endpoint.database else role
        if not endpoint.server.superuser and not catalog.may_act_as(control, [owner]):
            raise PrivilegeError(
                f"{endpoint.params.database} is owned by {owner}, for whom {role} may not act.",
                hint=f"As a superuser, once: GRANT {owner} TO {role}",
            )


def require_not_newer(what: str, major: int, server: ServerFacts) -> None:
    """Refuse to load what a newer PostgreSQL wrote. Raises VersionMismatchError."""
    if major > server.major:
        raise VersionMismatchError(
            f"{what} comes from PostgreSQL {major}, the target server is PostgreSQL "
            f"{server.major}: a newer archive does not load into an older server.",
            hint=f"Restore it on PostgreSQL {major} or newer.",
        )


def require_available(
    connection: Connection, *, extensions: Iterable[str], grantees: list[str]
) -> None:
    """Refuse where the target server lacks an extension or a role. Raises PreflightError."""
    missing = sorted(set(extensions) - catalog.available_extensions(connection))
    roles = catalog.missing_roles(connection, grantees)
    problems = [f"extension {name}" for name in missing] + [f"role {name}" for name in roles]
    if problems:
        raise PreflightError(
            "The target server lacks what this needs: " + ", ".join(problems) + ".",
            hint="Install the extensions and CREATE ROLE the roles there, then run it again.",
        )
