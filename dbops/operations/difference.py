"""Comparing two environments' databases: schema, triggers and applied migrations, not rows."""

from __future__ import annotations

from dataclasses import dataclass

from dbops.operations.context import OperationContext
from dbops.operations.inspection import InspectRequest, plan_in_place
from dbops.postgres import catalog, triggers
from dbops.postgres.connection import Connection, execute, session
from dbops.postgres.names import qualified
from dbops.postgres.structure import Definition, Identity, read_structure

_DEFAULT = " (default)"
"""Behind the version of an extension that is the one its server installs."""


@dataclass(frozen=True)
class DiffRequest:
    """Which two databases to compare."""

    a: InspectRequest
    b: InspectRequest


@dataclass(frozen=True)
class Change:
    """An object that both have, and how each defines it."""

    identity: Identity
    a: str
    b: str


@dataclass(frozen=True)
class DiffResult:
    """How B differs from A, sorted by kind and name.

    What belongs to an object that only one of them has is not told beside it.
    """

    only_in_a: tuple[Identity, ...]
    only_in_b: tuple[Identity, ...]
    changed: tuple[Change, ...]

    @property
    def drift(self) -> bool:
        """True where anything differs."""
        return bool(self.only_in_a or self.only_in_b or self.changed)


def diff_databases(request: DiffRequest, context: OperationContext) -> DiffResult:
    """Compare how two databases are defined; drift is a result, not an error. Nothing is written.

    What is compared is told by :func:`dbops.postgres.structure.read_structure`; triggers of ours by
    whether they are installed, outdated or disabled, migrations by whether they are applied.

    Raises:
        StampError: a database belongs to another environment.
        ConnectionFailedError, PreflightError: it does not answer, or does not exist.
    """
    a, b = _comparable(_read(request.a, context), _read(request.b, context))
    changed = [
        Change(identity, a[identity].text, b[identity].text)
        for identity in a.keys() & b.keys()
        if a[identity].text != b[identity].text
    ]
    return DiffResult(
        _missing(a, b), _missing(b, a), tuple(sorted(changed, key=lambda it: it.identity))
    )


def _missing(
    there: dict[Identity, Definition], here: dict[Identity, Definition]
) -> tuple[Identity, ...]:
    """What only one has, without that which belongs to such an object itself."""
    missing = there.keys() - here.keys()
    return tuple(sorted(it for it in missing if there[it].within not in missing))


@dataclass(frozen=True)
class _Read:
    """A database's definitions, and the major version of its server."""

    found: dict[Identity, Definition]
    major: int


def _comparable(a: _Read, b: _Read) -> tuple[dict[Identity, Definition], ...]:
    """Where the servers are of two versions, an extension of each one's own default version is the
    same to whoever installs it, and no dump says which it was."""
    same = a.major == b.major

    def plain(identity: Identity, it: Definition) -> Definition:
        if identity.kind != "extension":
            return it
        lines = [line for line in it.text.splitlines() if same or not line.endswith(_DEFAULT)]
        return it._replace(text="\n".join(line.removesuffix(_DEFAULT) for line in lines))

    return tuple({name: plain(name, it) for name, it in end.found.items()} for end in (a, b))


def _read(request: InspectRequest, context: OperationContext) -> _Read:
    """All of a database's definitions, as of one moment."""
    context.step(f"read {request.environment}")
    plan_in_place(request, writing=False)
    with session(request.database, application=context.application) as connection:
        execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = read_structure(connection, context.check_cancelled)
        found |= _own_triggers(connection)
        for migration in catalog.applied_migrations(connection):
            found[Identity("migration", migration)] = Definition("", None)
        return _Read(found, connection.server_version // 10000)


def _own_triggers(connection: Connection) -> dict[Identity, Definition]:
    # The facts tell apart what is outdated in two ways; where all is installed they are equal.
    return {
        Identity("trigger", qualified(schema, table, name)): Definition(
            state if state == "installed" else f"{state}\n{fact}",
            Identity("table", qualified(schema, table)),
        )
        for (schema, table, name), (state, fact) in triggers.present(connection).items()
    }
