"""Is an environment's database well? Every question is answered, also where one before went wrong.

Which answers are failures is decided here (docs/decisions/0016): what keeps the database from doing
its work, or from being brought back. The rest is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from dbops.exceptions import DbopsError
from dbops.operations.context import OperationContext
from dbops.operations.guards import SWAPPED_URLS, inspect_endpoint, mebibytes, require_existing
from dbops.operations.inspection import server_label
from dbops.postgres import anatomy, catalog, triggers
from dbops.postgres.anatomy import DatabaseRow
from dbops.postgres.connection import Connection, apply_settings, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp
from dbops.postgres.triggers import Wishes

OLDEST_SERVER = 15
CROWDED = 0.9
"""Of the connections a database or its server allows: above, newcomers may soon be turned away."""
BACKUP_AGE = timedelta(hours=48)
"""How old a protected environment's last backup may be: one nightly one may be missed, not two."""
_NAMES = (
    "reachable", "version", "size", "connections", "stamp", "migrations", "triggers", "backup",
)  # fmt: skip
_PATIENCE = {"lock_timeout": "5s", "statement_timeout": "30s"}


class Check(NamedTuple):
    """One question and its answer."""

    name: str
    ok: bool | None
    """None: not looked at, since the database cannot be reached."""
    value: str
    hint: str = ""


class MigrationGap(NamedTuple):
    """How code and database differ, as "app.name"."""

    pending: Sequence[str]
    unknown: Sequence[str]
    """Applied, of an app the code has, but not in the code."""


@dataclass(frozen=True)
class LastBackup:
    """The newest whole backup, as the catalogue has it."""

    made_at: datetime
    told: str
    damaged: bool


@dataclass(frozen=True)
class CheckRequest:
    """Which database, and what only those above know of it."""

    database: ConnectionParams
    environment: str
    gap: Callable[[Sequence[str]], MigrationGap]
    """Compares applied migrations with the code's; Django lives above this layer."""
    backup: LastBackup | None
    protected: bool
    triggers: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class CheckResult:
    """The answers, in the order of the questions."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """What is not well."""
        return [it for it in self.checks if it.ok is False]


def check_db(request: CheckRequest, context: OperationContext) -> CheckResult:
    """Look at a database from all sides; that something is not well is a result, not an error."""
    context.step(f"check {request.environment}")
    backup = _backup(request)
    try:
        require_existing(inspect_endpoint(request.database, request.environment))
        with session(request.database, application=context.application) as connection:
            apply_settings(connection, _PATIENCE)
            found = [*_checks(connection, request)]
    except DbopsError as error:
        found = [Check("reachable", False, str(error), error.hint)]
    answered = {it.name: it for it in (*found, backup)}
    return CheckResult(
        tuple(answered.get(name) or Check(name, None, "not looked at") for name in _NAMES)
    )


def _checks(connection: Connection, request: CheckRequest) -> Iterator[Check]:
    facts = anatomy.database(connection)
    yield Check("reachable", True, server_label(request.database))
    yield _version(facts)
    yield Check("size", True, mebibytes(facts.size))
    yield _connections(facts)
    for name, look in (("stamp", _stamp), ("migrations", _migrations), ("triggers", _triggers)):
        try:
            yield look(connection, request)
        except DbopsError as error:
            yield Check(name, False, str(error), error.hint)


def _version(facts: DatabaseRow) -> Check:
    version = facts.version.split()[0]
    supported = int(version.split(".")[0]) >= OLDEST_SERVER
    value = f"PostgreSQL {version}"
    if not supported:
        value += f", older than {OLDEST_SERVER}"
    return Check("version", supported, value)


def _connections(facts: DatabaseRow) -> Check:
    """Of the narrower limit: the database's own, or the server's."""
    used, limit, where = facts.server_connections, facts.server_limit, " on the server"
    if 0 <= facts.connection_limit < limit:
        used, limit, where = facts.connections, facts.connection_limit, ""
    return Check("connections", used < CROWDED * limit, f"{used} of {limit}{where}")


def _stamp(connection: Connection, request: CheckRequest) -> Check:
    stamp = read_stamp(connection)
    if stamp == request.environment:
        return Check("stamp", True, stamp)
    if stamp is not None:
        return Check("stamp", False, f"{stamp}, not {request.environment}", SWAPPED_URLS)
    if catalog.is_empty(connection):
        return Check("stamp", True, "none yet, and empty")
    hint = f"python manage.py init_db --env {request.environment} --adopt"
    return Check("stamp", False, "none, but it holds tables", hint)


def _migrations(connection: Connection, request: CheckRequest) -> Check:
    applied = catalog.applied_migrations(connection)
    gap = request.gap(applied)
    value = f"{len(applied)} applied, {len(gap.pending)} pending"
    if gap.unknown:
        value += f", {len(gap.unknown)} not in the code: {', '.join(gap.unknown[:3])}"
    confirm = f" --confirm {request.environment}" if request.protected else ""
    command = f"python manage.py apply_migration --env {request.environment}{confirm}"
    hint = command if gap.pending else ""
    return Check("migrations", not (gap.pending or gap.unknown), value, hint)


def _triggers(connection: Connection, request: CheckRequest) -> Check:
    found = triggers.status(connection, request.triggers)
    told = ", ".join(f"{number} {name}" for name, number in found.counts.items() if number)
    hint = f"python manage.py apply_triggers --env {request.environment}" if found.drift else ""
    return Check("triggers", not found.drift, told or "none", hint)


def _backup(request: CheckRequest) -> Check:
    """That an environment anybody may overwrite has none is no failure."""
    hint = f"python manage.py dbbackup -d {request.environment}"
    last = request.backup
    if last is None:
        return Check("backup", not request.protected, "none yet", hint if request.protected else "")
    if last.damaged:
        return Check("backup", False, f"{last.told}: found damaged", hint)
    old = request.protected and datetime.now(UTC) - last.made_at > BACKUP_AGE
    return Check("backup", not old, last.told, hint if old else "")
