"""What must hold before a database is written: the stamp, the privileges, the versions.

Everything that is wrong is collected and named at once, before anything is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dbops.exceptions import (
    DbopsError,
    PreflightError,
    PrivilegeError,
    SpaceError,
    StampError,
    VersionMismatchError,
)
from dbops.postgres import catalog, roles
from dbops.postgres.connection import Connection, session
from dbops.postgres.databases import (
    MAINTENANCE,
    DatabaseFacts,
    ServerFacts,
    database_facts,
    free_space,
    server_facts,
)
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp

SWAPPED_URLS = "Are two URLs swapped? Look at DEV_, TEST_ and PROD_DATABASE_URL."
"""Why a stamp may be another environment's."""


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
    require_own_stamp(stamp, endpoint.environment, endpoint.params.label)
    if unknown and writing:
        raise StampError(
            f"{endpoint.params.label} holds tables but was never taken in as "
            f"{endpoint.environment}.",
            hint=f"If it is: python manage.py init_db --env {endpoint.environment} --adopt",
        )


def require_own_stamp(stamp: str | None, environment: str, place: str) -> None:
    """Raise StampError where a database says it is another environment's; one without says nothing.

    Args:
        place: what the sentence calls the database.
    """
    if stamp not in (None, environment):
        raise StampError(
            f"The settings call {place} {environment}, but the database is stamped {stamp}.",
            hint=SWAPPED_URLS,
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
            hint=f"As a superuser, once: ALTER ROLE {role} CREATEDB. Or restore with --in-place.",
        )
    with session(endpoint.params.with_database(MAINTENANCE)) as control:
        owner = endpoint.database.owner if endpoint.database else role
        if not endpoint.server.superuser and not roles.may_act_as(control, [owner]):
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
    """Refuse where the target server lacks an extension or a role.

    Raises:
        PreflightError, PrivilegeError: what is missing is named.
    """
    problems = Preflight()
    problems.require_extensions(connection, list(extensions))
    problems.require_roles(connection, [], grantees)
    problems.check()


class Preflight:
    """What is in the way of an operation, collected, so that all of it is named at once."""

    def __init__(self) -> None:
        self._found: list[DbopsError] = []

    def add(self, error: DbopsError) -> None:
        """One more thing that is in the way."""
        self._found.append(error)

    def check(self) -> None:
        """Raise what was found: the error itself, or one PreflightError for several."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            hints = dict.fromkeys(error.hint for error in self._found if error.hint)
            raise PreflightError(" ".join(map(str, self._found)), hint=" ".join(hints))

    def require_not_newer(self, what: str, major: int, server: ServerFacts) -> None:
        """See :func:`require_not_newer`."""
        try:
            require_not_newer(what, major, server)
        except VersionMismatchError as error:
            self.add(error)

    def require_extensions(self, connection: Connection, names: Collection[str]) -> None:
        """Those the server lacks, or lets only a superuser install."""
        known = catalog.available_extensions(connection)
        missing = sorted(set(names) - known.keys())
        forbidden = sorted(name for name in names if known.get(name) is False)
        if missing:
            self.add(PreflightError(
                f"The target server lacks extension {', '.join(missing)}.",
                hint="Install the extensions on the server, then run it again.",
            ))  # fmt: skip
        if forbidden:
            self.add(PrivilegeError(
                f"Only a superuser may install extension {', '.join(forbidden)}.",
                hint="Let a superuser restore it, or make the extension trusted on the server.",
            ))  # fmt: skip

    def require_roles(self, connection: Connection, owners: list[str], grantees: list[str]) -> None:
        """Roles that own, or were granted, something and are missing; and owners for whom the
        connecting role may not act."""
        missing = roles.missing_roles(connection, sorted({*owners, *grantees}))
        foreign = [
            name
            for name in owners
            if name not in missing and not roles.may_act_as(connection, [name])
        ]
        if missing:
            self.add(PreflightError(
                f"The target server lacks role {', '.join(missing)}.",
                hint="CREATE ROLE them there; or --no-owner: everything then belongs to the "
                "connecting role, and what was granted to missing roles is left out.",
            ))  # fmt: skip
        if foreign:
            self.add(PrivilegeError(
                f"The connecting role may not make objects of {', '.join(foreign)}.",
                hint=f"GRANT {', '.join(foreign)} TO the connecting role; or --no-owner: "
                f"everything then belongs to the connecting role.",
            ))  # fmt: skip

    def require_space(self, server: ServerFacts, needed: int) -> None:
        """Room for ``needed`` bytes in the server's data directory, where it lies on this machine
        and may be looked at."""
        free = free_space(server)
        if free is not None and needed > free:
            self.add(SpaceError(
                f"The restored database needs about {mebibytes(needed)}; the server's disk has "
                f"{mebibytes(free)} free.",
                hint="Make room there: operations sweep drops databases kept for an undo that "
                "have expired.",
            ))  # fmt: skip


def mebibytes(size: int) -> str:
    """Bytes for a sentence."""
    return f"{size / (1 << 20):,.0f} MiB"
