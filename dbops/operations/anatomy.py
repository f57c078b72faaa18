"""Looking at one database in detail: the whole, its tables, triggers, functions, definitions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dbops.exceptions import ConnectionFailedError, NotFoundError, StatementError
from dbops.operations.context import OperationContext
from dbops.operations.inspection import InspectRequest, plan_in_place, server_label
from dbops.postgres import anatomy, catalog, names, triggers
from dbops.postgres.anatomy import (
    ColumnRow,
    ConstraintRow,
    DatabaseRow,
    Found,
    FunctionRow,
    IndexRow,
    ReferenceRow,
    RelationRow,
    SchemaRow,
    TableRow,
    TriggerRow,
)
from dbops.postgres.connection import (
    WRITTEN,
    Connection,
    apply_settings,
    connect,
    execute,
    session,
)
from dbops.postgres.names import qualified
from dbops.postgres.stamp import read_stamp
from dbops.postgres.structure import Definition, Identity, read_structure

_LARGEST = 10
_PATIENCE = {"lock_timeout": "5s", "statement_timeout": "120s"}
"""Whoever has locked a table must not make a look at the others wait."""


@dataclass(frozen=True)
class Wish:
    """What to look at. Views can be combined, and a filter holds for each of them."""

    tables: bool = False
    structure: bool = False
    triggers: bool = False
    functions: bool = False
    schema: str | None = None
    """Only what is in it. Without a view: its structure."""
    table: str | None = None
    """Only what belongs to it. Without a view: all about it."""


@dataclass(frozen=True)
class Overview:
    """A database at a glance."""

    server: str
    database: DatabaseRow
    stamp: str | None
    extensions: dict[str, str]
    schemas: list[SchemaRow]
    largest: list[TableRow]
    migrations: int
    triggers: dict[str, int]
    """How many of ours are installed, outdated, disabled, missing; and how many are foreign."""


@dataclass(frozen=True)
class TableDetail:
    """All about one table or view."""

    table: Found
    relation: RelationRow
    summary: TableRow | None
    """None for a view."""
    columns: list[ColumnRow]
    constraints: list[ConstraintRow]
    indexes: list[IndexRow]
    triggers: list[TriggerRow]
    referenced_by: list[ReferenceRow]


@dataclass(frozen=True)
class Anatomy:
    """What was asked for; None where it was not."""

    overview: Overview | None = None
    tables: list[TableRow] | None = None
    structure: dict[Identity, Definition] | None = None
    triggers: list[TriggerRow] | None = None
    functions: list[FunctionRow] | None = None
    detail: TableDetail | None = None
    unseen: tuple[str, ...] = ()
    """What the connecting role may not see."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries; times in ISO 8601, UTC."""
        found: dict[str, Any] = {}
        if self.overview:
            found |= _overview_json(self.overview)
        if self.detail:
            found |= _detail_json(self.detail)
        for name in ("tables", "triggers", "functions"):
            rows = getattr(self, name)
            if rows is not None:
                found[name] = [_plain(row) for row in rows]
        if self.structure is not None:
            found["structure"] = [
                {**identity._asdict(), "definition": it.text}
                for identity, it in sorted(self.structure.items())
            ]
        return found | {"unseen": list(self.unseen)}


def inspect_database(request: InspectRequest, wish: Wish, context: OperationContext) -> Anatomy:
    """Look at a database as of one moment. Nothing is written, no row is read, none is counted.

    Raises:
        NotFoundError: no such table or schema; near matches are named.
        ConnectionFailedError, PreflightError, StampError: see ``plan_in_place``.
    """
    context.step(f"look at {request.environment}")
    with _one_moment(request, context) as connection:
        if read_stamp(connection) not in (None, request.environment):
            plan_in_place(request, writing=False)  # which refuses it
        _require_schema(connection, wish.schema, request.environment)
        found = _find(connection, wish, request.environment) if wish.table is not None else None
        return _look(connection, request, wish, found, context)


@contextmanager
def _one_moment(request: InspectRequest, context: OperationContext) -> Iterator[Connection]:
    """A session that sees one state of the whole, and waits for no lock for long."""
    with _own_session(request, context) as connection:
        apply_settings(connection, WRITTEN | _PATIENCE | {"jit": "off"})
        execute(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield connection
        except StatementError as error:
            if "lock timeout" not in str(error):
                raise
            with session(request.database) as other:
                locked = ", ".join(map(names.visible, catalog.exclusively_locked(other)))
            raise StatementError(
                f"{locked or 'A table'} of {request.environment} is locked by another session.",
                hint="Wait for who holds it, then look again.",
            ) from error


@contextmanager
def _own_session(request: InspectRequest, context: OperationContext) -> Iterator[Connection]:
    try:
        connection = connect(request.database, application=context.application)
    except ConnectionFailedError:
        plan_in_place(request, writing=False)  # which says so where there is no such database
        raise
    with closing(connection):
        yield connection


def _look(
    connection: Connection,
    request: InspectRequest,
    wish: Wish,
    found: Found | None,
    context: OperationContext,
) -> Anatomy:
    scope = (wish.schema, found.id if found else None)
    viewed = wish.tables or wish.structure or wish.triggers or wish.functions
    structured = wish.structure or (wish.schema is not None and not viewed and found is None)
    whole = not viewed and not structured and found is None
    return Anatomy(
        overview=_overview(connection, request) if whole else None,
        tables=anatomy.tables(connection, *scope) if wish.tables else None,
        structure=_structure(connection, wish, found, context) if structured else None,
        triggers=anatomy.triggers(connection, *scope) if wish.triggers else None,
        functions=anatomy.functions(connection, *scope) if wish.functions else None,
        detail=_detail(connection, found) if found and not viewed else None,
        unseen=_unseen(connection),
    )


def _overview(connection: Connection, request: InspectRequest) -> Overview:
    largest = sorted(anatomy.tables(connection), key=lambda it: (-it.total, it.schema, it.name))
    return Overview(
        server=server_label(request.database),
        database=anatomy.database(connection),
        stamp=read_stamp(connection),
        extensions=catalog.extension_versions(connection),
        schemas=anatomy.schemas(connection),
        largest=[it for it in largest if it.total][:_LARGEST],
        migrations=len(catalog.applied_migrations(connection)),
        triggers=triggers.status(connection, request.triggers).counts,
    )


def _detail(connection: Connection, found: Found) -> TableDetail:
    summary = anatomy.tables(connection, table=found.id)
    return TableDetail(
        table=found,
        relation=anatomy.relation(connection, found.id),
        summary=summary[0] if summary else None,
        columns=anatomy.columns(connection, found.id),
        constraints=anatomy.constraints(connection, found.id),
        indexes=anatomy.indexes(connection, found.id),
        triggers=anatomy.triggers(connection, table=found.id),
        referenced_by=anatomy.referenced_by(connection, found.id),
    )


def _structure(
    connection: Connection, wish: Wish, found: Found | None, context: OperationContext
) -> dict[Identity, Definition]:
    """Every definition, or those within a table or a schema, itself included."""
    every = read_structure(connection, context.check_cancelled)
    if found is not None:
        root = qualified(found.schema, found.name)
        kinds = {"table", "view", "materialised view", "foreign table"}
    elif wish.schema is not None:
        root, kinds = qualified(wish.schema), {"schema"}
    else:
        return every
    within: set[Identity] = set()
    for identity, definition in every.items():  # what belongs to something stands after it
        if (identity.kind in kinds and identity.name == root) or definition.within in within:
            within.add(identity)
    return {identity: every[identity] for identity in within}


def _unseen(connection: Connection) -> tuple[str, ...]:
    role, count = anatomy.unreadable(connection)
    sentence = f"{role} may not read {count} of the tables: their bloat cannot be estimated."
    return (sentence,) if count else ()


def _require_schema(connection: Connection, schema: str | None, environment: str) -> None:
    if schema is None or (_can_be_a_name(schema) and anatomy.schemas(connection, schema)):
        return
    known = [it.name for it in anatomy.schemas(connection)]
    raise _not_found("schema", schema, names.near(schema, known), environment)


def _can_be_a_name(text: str) -> bool:
    """An argument that is no UTF-8 arrives with surrogates, which cannot even be asked for."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def _find(connection: Connection, wish: Wish, environment: str) -> Found:
    """The table that is meant. Raises NotFoundError for none, or for several."""
    assert wish.table is not None
    known = {(it.schema, it.name): it for it in anatomy.names(connection, wish.schema)}
    if wish.schema is not None:
        known = {key: it for key, it in known.items() if it.schema == wish.schema}
    found = names.meant(wish.table, list(known))
    if len(found) == 1:
        return known[found[0]]
    if found:
        listed = ", ".join(names.visible(qualified(*it)) for it in found[:5])
        raise NotFoundError(
            f"{names.shortened(wish.table)} can mean {len(found)} tables: {listed}.",
            hint="Name its schema too.",
        )
    full = {it: qualified(*it) for it in known}
    by_name = {name: label for (_, name), label in full.items()}
    by_name |= {label: label for label in full.values()}
    close = dict.fromkeys(by_name[it] for it in names.near(wish.table, list(by_name)))
    raise _not_found("table", wish.table, list(close), environment)


def _not_found(what: str, wanted: str, close: list[str], environment: str) -> NotFoundError:
    listed = ", ".join(map(names.visible, close))
    return NotFoundError(
        f"There is no {what} {names.shortened(wanted)}.",
        hint=f"Was {listed} meant?"
        if close
        else f"See what there is: python manage.py inspect_db --env {environment}"
        + (" --tables" if what == "table" else ""),
    )


def _plain(row: Any) -> dict[str, Any]:
    """A row of the catalogue as an object."""
    found: dict[str, Any] = row._asdict()
    return {key: it.isoformat() if isinstance(it, datetime) else it for key, it in found.items()}


def _overview_json(overview: Overview) -> dict[str, Any]:
    return {
        "server": overview.server,
        **_plain(overview.database),
        "stamp": overview.stamp,
        "extensions": overview.extensions,
        "schemas": [_plain(row) for row in overview.schemas],
        "largest": [_plain(row) for row in overview.largest],
        "migrations": overview.migrations,
        "triggers": overview.triggers,
    }


def _detail_json(detail: TableDetail) -> dict[str, Any]:
    summary = _plain(detail.summary) if detail.summary else {}
    lists = ("columns", "constraints", "indexes", "triggers", "referenced_by")
    return {
        "table": {
            "schema": detail.table.schema,
            "name": detail.table.name,
            **{key: it for key, it in summary.items() if key not in ("indexes", "triggers")},
            **_plain(detail.relation),
        },
        **{name: [_plain(row) for row in getattr(detail, name)] for name in lists},
    }
