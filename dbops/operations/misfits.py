"""Rows that do not fit the schema they are loaded into: found, counted per table, left out only
where that was asked for.

A row that no column, check or partition takes is found while it is loaded; one that repeats a
unique value or refers to a row that is not there, before the constraint is made. Leaving out a row
can leave others without what they refer to, so the search goes on until nothing more is found.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from psycopg2 import sql

from dbops.exceptions import MisfitError, ProofError
from dbops.operations.context import OperationContext
from dbops.operations.copy_plan import CopyRequest
from dbops.operations.copy_routes import Ends, Route
from dbops.postgres import constraints
from dbops.postgres.connection import (
    WRITTEN,
    Connection,
    apply_settings,
    execute,
    fetch_all,
    fetch_all_polled,
    fetch_row,
    session,
)
from dbops.postgres.names import quoted, quoted_name
from dbops.postgres.params import ConnectionParams
from dbops.postgres.pump import READING, copy_rows
from dbops.postgres.snapshot import look_through
from dbops.postgres.stream import Moved, Parcel
from dbops.wording import counted

_NAMED = 5
"""Tables named in one sentence."""


def settle_misfits(
    moved: Moved,
    ends: Ends,
    routes: list[Route],
    target: ConnectionParams,
    request: CopyRequest,
    context: OperationContext,
) -> dict[str, int]:
    """Load what fits of the tables whose rows did not all, and take out what no constraint would
    let stay. ``moved.rows`` is kept true, and knows every partition afterwards.

    Returns:
        The rows left out, per table.

    Raises:
        MisfitError: rows do not fit, and nobody said to leave them out.
    """
    found = _Found()
    with session(target, application=context.application) as incoming:
        for parcel in moved.misfits:
            context.step(f"rows of {parcel.table} one by one")
            found.add(parcel.table, *_load_one_by_one(parcel, incoming, moved, context))
        if suspects := _suspects(routes, ends, found):
            context.step("check rows")
            _take_out(suspects, ends, incoming, found, context)
        _recount(moved, routes, ends, found, incoming)
    if found.rows and not request.drop_misfits:
        raise MisfitError(
            f"Rows do not fit the schema of {ends.defining.environment}: {found.told()}.",
            hint="--drop-misfits leaves them out; --exclude leaves out whole tables.",
        )
    if found.rows:
        context.log(f"Left out, as they do not fit: {found.told()}")
    return found.rows


class _Found:
    """Rows that do not fit, and why, per table."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.taken_out: dict[str, int] = {}
        """Those of them that had been loaded."""
        self._reasons: dict[str, str] = {}

    def add(self, table: str, rows: int, reason: str) -> None:
        if rows:
            self.rows[table] = self.rows.get(table, 0) + rows
            self._reasons.setdefault(table, reason)

    def take_out(self, rows_of: Mapping[str, int], reason: str) -> None:
        for table, rows in rows_of.items():
            self.add(table, rows, reason)
            self.taken_out[table] = self.taken_out.get(table, 0) + rows

    def told(self) -> str:
        named = [
            f"{rows} of {table} ({self._reasons[table]})"
            for table, rows in sorted(self.rows.items())
        ]
        more = len(named) - _NAMED
        others = f" and of {counted(more, 'more table')}" if more > 0 else ""
        return ", ".join(named[:_NAMED]) + others


def _load_one_by_one(
    parcel: Parcel, incoming: Connection, moved: Moved, context: OperationContext
) -> tuple[int, str]:
    """(how many rows did not fit, what the server said of the first)."""
    poll = context.check_cancelled
    names = [f"c{number}" for number in range(len(parcel.columns))]
    execute(incoming, "DROP TABLE IF EXISTS pg_temp.travelling")
    execute(
        incoming,
        f"CREATE TEMP TABLE travelling ({', '.join(f'{name} pg_catalog.text' for name in names)})",
    )
    with session(parcel.origin.params, application=context.application) as reader:
        look_through(reader, parcel.origin.snapshot)
        apply_settings(reader, {**WRITTEN, **READING})
        read = sql.SQL(f"COPY ({parcel.source}) TO STDOUT")
        write = sql.SQL("COPY pg_temp.travelling FROM STDIN")
        total = copy_rows(reader, incoming, read, write, poll)
    types = _types(incoming, parcel)
    # What COPY would do: an explicit cast to varchar(5) would cut a longer value off, the
    # assignment to the column refuses it.
    values = ", ".join(f"r.{name}::{types[column]}" for name, column in zip(
        names, parcel.columns, strict=True))  # fmt: skip
    columns = ", ".join(map(quoted_name, parcel.columns))
    apply_settings(incoming, WRITTEN)
    tag = f"$skinspire_{secrets.token_hex(8)}$"  # no name of a column can end it
    fetch_all_polled(
        incoming,
        f"""DO {tag}
            DECLARE r record; bad bigint := 0; said text := ''; what text; which text;
            BEGIN
              FOR r IN SELECT * FROM pg_temp.travelling LOOP
                BEGIN
                  INSERT INTO {quoted(parcel.table)} ({columns})
                  OVERRIDING SYSTEM VALUE VALUES ({values});
                EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
                  bad := bad + 1;
                  IF said = '' THEN  -- the message itself may quote a patient
                    GET STACKED DIAGNOSTICS what = CONSTRAINT_NAME, which = COLUMN_NAME;
                    said := CASE WHEN what <> '' THEN what WHEN which <> '' THEN which || ' is NULL'
                                 ELSE 'a value no column of that type takes' END;
                  END IF;
                END;
              END LOOP;
              PERFORM set_config('skinspire.misfits', bad || ' ' || said, false);
            END {tag}""",
        poll,
    )
    row = fetch_row(incoming, "SELECT current_setting('skinspire.misfits')")
    count, _, said = str(row[0] if row else "0 ").partition(" ")
    execute(incoming, "DROP TABLE pg_temp.travelling")
    moved.rows[parcel.table] += total - int(count)
    return int(count), said


def _types(incoming: Connection, parcel: Parcel) -> dict[str, str]:
    """The type of each column, without its length."""
    rows = fetch_all(
        incoming,
        """SELECT attname, format_type(atttypid, -1) FROM pg_attribute
            WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped""",
        [quoted(parcel.table)],
    )
    return dict(rows)


def _suspects(routes: list[Route], ends: Ends, found: _Found) -> dict[str, Route]:
    """Tables whose constraints may not hold: rows and schema come from different databases, or
    rows are missing."""
    suspects = {
        route.table: route
        for route in routes
        if route.giver is not ends.defining or route.table in found.rows
    }
    for route in list(suspects.values()):  # its keys are those of the partitioned table
        suspects.setdefault(ends.defining.tables[route.table].root, route)
    return suspects


def _take_out(
    suspects: Mapping[str, Route],
    ends: Ends,
    incoming: Connection,
    found: _Found,
    context: OperationContext,
) -> None:
    """Delete what repeats or refers to nothing, until nothing more is found."""
    poll = context.check_cancelled
    keys = constraints.unique_keys(ends.defining.connection)
    for key in keys:
        route = suspects.get(key.table)
        if route is not None and route.parcel is not None and not _held_there(route, key):
            rows = constraints.delete_repeated(incoming, key, poll)
            found.take_out(rows, f"{key.name} is unique")
    foreign = [
        key
        for key in constraints.foreign_keys(ends.defining.connection)
        if key.table in suspects or key.referenced in suspects
    ]
    before = -1
    while before != sum(found.rows.values()):
        before = sum(found.rows.values())
        for link in foreign:
            rows = constraints.delete_unreferred(incoming, link, poll)
            found.take_out(rows, f"{link.name}: {link.referenced} lacks what they refer to")


def _held_there(route: Route, key: constraints.UniqueKey) -> bool:
    """Whether the rows come from where the same was unique already."""
    return route.giver is not None and key in constraints.unique_keys(route.giver.connection)


def _recount(
    moved: Moved, routes: list[Route], ends: Ends, found: _Found, incoming: Connection
) -> None:
    """Keep ``moved.rows`` true, and see that it is: COPY counted neither what was taken out since,
    nor in which partitions rows came to lie that went to the whole."""
    trees = {it.table for it in routes if it.parcel and it.parcel.whole_tree}
    tables = ends.defining.tables
    expected: dict[str, int] = {}
    leaves: dict[str, list[str]] = {}
    for name, it in tables.items():
        if it.partitioned or not (it.root in trees or name in trees or name in found.rows):
            continue
        group = it.root if it.root in trees else name
        leaves.setdefault(group, []).append(name)
        expected.setdefault(group, moved.rows.pop(group, 0))
        expected[group] -= found.taken_out.get(name, 0)
    for group, names in leaves.items():
        for name in names:
            rows = fetch_all(incoming, f"SELECT count(*) FROM ONLY {quoted(name)}")[0][0]
            moved.rows[name] = int(rows)
        there = sum(moved.rows[name] for name in names)
        if there != expected[group]:
            raise ProofError(f"{group} holds {there} instead of {counted(expected[group], 'row')}.")
