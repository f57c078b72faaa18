"""Where each table's rows come from, and what happens to them on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbops.exceptions import MaskingError, PreflightError
from dbops.masking.plan import MaskPlan
from dbops.operations.context import OperationContext
from dbops.operations.copy_plan import FOLLOWS_THE_SCHEMA, CopyRequest
from dbops.postgres.catalog import matches
from dbops.postgres.connection import Connection, fetch_value
from dbops.postgres.names import quoted, quoted_name
from dbops.postgres.shapes import Shape, TableFacts, named
from dbops.postgres.stream import Origin, Parcel


@dataclass(frozen=True)
class End:
    """One of the two databases, looked at under a snapshot."""

    connection: Connection
    origin: Origin
    environment: str
    tables: Mapping[str, TableFacts]


@dataclass(frozen=True)
class Ends:
    """Both of them, by what each gives; the target only where it gives anything."""

    source: End
    target: End | None
    defining: End
    """Which of the two the schema comes from."""

    @property
    def all(self) -> tuple[End, ...]:
        return (self.source,) if self.target is None else (self.source, self.target)


@dataclass(frozen=True)
class Route:
    """Where the rows of one of the new tables come from."""

    table: str
    giver: End | None
    parcel: Parcel | None
    """None, as the giver, where it arrives empty."""
    masked: int = 0
    """How many of its columns are masked."""


def plan_routes(
    request: CopyRequest, ends: Ends, masks: MaskPlan | None, context: OperationContext
) -> list[Route]:
    """A route for every table of the new schema that holds rows.

    Raises:
        PreflightError: rows that are to be kept have no value for a column that needs one.
    """
    found: list[Route] = []
    for table in ends.defining.tables.values():
        if table.partitioned != _travels_by_root(table.root, request, ends) and (
            table.partitioned or table.root != table.table
        ):
            continue  # its partitions travel, or it travels with the whole
        giver = _giver(table, request, ends)
        theirs = giver.tables.get(table.table) if giver else None
        masked = masks if giver is ends.source else None
        if giver is None or theirs is None or (masked and table.table in masked.emptied):
            found.append(Route(table.table, None, None))
            continue
        mask = _mask(masked, theirs) if masked else None
        found.append(_route(table, theirs, giver, ends.defining, mask, context))
    _tell_what_is_lost(request, ends, context)
    return found


def _giver(table: TableFacts, request: CopyRequest, ends: Ends) -> End | None:
    """Whose rows a table takes."""
    if table.table.split(".", 1)[1] == FOLLOWS_THE_SCHEMA:
        return ends.defining
    if named([table], request.preserve):
        return ends.target
    if named([table], request.exclude):
        return None
    if request.part == "schema":
        return ends.target
    # A table the source does not know keeps its rows.
    known = request.part != "data" or table.table in ends.source.tables
    return ends.source if known else ends.target


def _travels_by_root(root: str, request: CopyRequest, ends: Ends) -> bool:
    """Rows go to a partitioned table as a whole where its parts are not the giver's: it knows to
    which of its parts each belongs."""
    giver = _giver(ends.defining.tables[root], request, ends)
    if giver is None or giver is ends.defining:
        return False
    if _tree(root, giver) == _tree(root, ends.defining):
        return False
    patterns = (*request.preserve, *request.exclude)
    parts = [it for end in ends.all for it in end.tables.values() if it.root == root != it.table]
    single = [it.table for it in parts if matches(it.table, patterns)]
    if single and not matches(root, patterns):
        raise PreflightError(
            f"{single[0]} cannot be chosen alone: {root} has other partitions in "
            f"{giver.environment} than in {ends.defining.environment}.",
            hint=f"Choose the whole of it: {root}",
        )
    return True


def _mask(masks: MaskPlan, table: TableFacts) -> Mapping[str, str]:
    """The masks of a table of the source. Raises MaskingError where the rules were not asked: what
    nobody looked at does not leave."""
    if table.table not in masks.columns:
        raise MaskingError(
            f"{table.table} is not covered by the masking plan; nothing of it leaves.",
            hint="python manage.py masking --missing",
        )
    return masks.columns[table.table]


def _tree(root: str, end: End) -> dict[str, Shape]:
    """The parts of a partitioned table; {} of one that is not."""
    if root not in end.tables or not end.tables[root].partitioned:
        return {}
    return {name: it.shape for name, it in end.tables.items() if it.root == root}


def _route(
    table: TableFacts,
    theirs: TableFacts,
    giver: End,
    defining: End,
    mask: Mapping[str, str] | None,
    context: OperationContext,
) -> Route:
    there = {column.name for column in theirs.shape.columns}
    if mask is not None:  # no rule covers what the source computes: the target computes it, or none
        there -= {column.name for column in theirs.shape.columns if column.generated}
    wanted = [column for column in table.shape.columns if not column.generated]
    common = [column for column in wanted if column.name in there]
    elsewhere = giver is not defining
    same = not elsewhere or (
        theirs.shape == table.shape and not any(column.own_type for column in wanted)
    )
    if elsewhere:
        lacking = [it.name for it in wanted if it.name not in there | _may_lack(table)]
        if lacking and _has_rows(theirs, giver):
            raise PreflightError(
                f"{table.table}.{lacking[0]} may not be NULL and has no default, and the rows of "
                f"{giver.environment} have no value for it.",
                hint=f"Give the column a default in {defining.environment}, or let the rows go: "
                f"--exclude {table.table}",
            )
        lost = sorted(there - {column.name for column in table.shape.columns})
        if lost:
            context.log(
                f"{table.table}: the new schema has no column {', '.join(lost)}; what "
                f"{giver.environment} holds there is left out"
            )
    if wanted and not common and _has_rows(theirs, giver):
        raise PreflightError(
            f"{table.table} has no column in common with that of {giver.environment}.",
            hint=f"Leave its rows out: --exclude {table.table}",
        )
    whole = table.partitioned or theirs.partitioned
    parcel = Parcel(
        table.table,
        giver.origin,
        tuple(column.name for column in common),
        tuple((mask or {}).get(column.name) or quoted_name(column.name) for column in common),
        bytes=sum(it.bytes for it in giver.tables.values() if it.root == theirs.table)
        if theirs.partitioned
        else theirs.bytes,
        size_in_blocks=theirs.blocks,
        binary=same and all(column.binary for column in common),
        freeze=not whole,
        checked=not same or whole,
        whole_tree=whole,
    )
    return Route(table.table, giver, parcel, sum(column.name in (mask or {}) for column in common))


def _has_rows(table: TableFacts, end: End) -> bool:
    return bool(fetch_value(end.connection, f"SELECT EXISTS (SELECT FROM {quoted(table.table)})"))


def _may_lack(table: TableFacts) -> set[str]:
    return {column.name for column in table.shape.columns if column.nullable or column.filled}


def _tell_what_is_lost(request: CopyRequest, ends: Ends, context: OperationContext) -> None:
    giving = ends.target if request.part == "schema" else ends.source
    if giving is None or giving is ends.defining:
        return
    lost = [
        name
        for name, facts in giving.tables.items()
        if name not in ends.defining.tables and facts.root == name
    ]
    if lost:
        context.log(
            f"The new schema has no table {', '.join(lost[:5])}"
            f"{f' and {len(lost) - 5} more' if len(lost) > 5 else ''}: the rows "
            f"{giving.environment} holds there are left out"
        )
