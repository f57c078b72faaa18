"""What a transaction did to tables: the locks it took, the rows it wrote, the tables it rewrote.

PostgreSQL keeps a transaction's locks until its end and counts its rows apart, so looking at the
end tells both exactly. A table that was rewritten has another file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from psycopg2 import sql

from dbops.postgres.connection import Connection, execute, fetch_all, fetch_value

_FILES = Path(__file__).parents[1] / "sql" / "migration"
_WEAKEST_FIRST = (
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock",
    "ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock",
)  # fmt: skip
_BOOKKEEPING = "public.django_migrations"


class Relation(NamedTuple):
    """One table at one moment."""

    name: str
    file: int
    has_rows: bool
    """Rows of its own, unlike a view's or a partitioned table's."""
    inserted: int
    updated: int
    deleted: int


@dataclass(frozen=True)
class Footprint:
    """What was done since a look at the tables."""

    locks: Mapping[str, str]
    """The strongest lock on each table that was there before, by "schema.table"."""
    rewritten: Mapping[str, int]
    """Rows of each table whose file was written anew."""
    written: Mapping[str, Mapping[str, int]]
    """Rows inserted, updated and deleted, by table."""


def look_at_tables(connection: Connection) -> dict[int, Relation]:
    """Every table of users, by its number."""
    rows = fetch_all(connection, _file("relations"))
    return {oid: Relation(*facts) for oid, *facts in rows}


def take_footprint(connection: Connection, before: Mapping[int, Relation]) -> Footprint:
    """What the transaction of this very connection did since ``before`` was looked at."""
    locks = read_locks(connection, before)
    after = look_at_tables(connection)
    return Footprint(locks, _rewritten(connection, before, after), _written(before, after))


def read_locks(
    connection: Connection, before: Mapping[int, Relation], pid: int | None = None
) -> dict[str, str]:
    """The strongest lock on each of these tables that a session holds now; None for one's own."""
    found: dict[str, str] = {}
    holder = connection.info.backend_pid if pid is None else pid
    for oid, mode in fetch_all(connection, _file("locks"), [holder]):
        if oid in before and before[oid].name != _BOOKKEEPING:
            name = before[oid].name
            found[name] = stronger(found.get(name), mode)
    return dict(sorted(found.items()))


def stronger(one: str | None, other: str) -> str:
    """The stronger of two lock modes."""
    return max(filter(None, (one, other)), key=_WEAKEST_FIRST.index)


def _rewritten(
    connection: Connection, before: Mapping[int, Relation], after: Mapping[int, Relation]
) -> dict[str, int]:
    found = {}
    for oid, table in after.items():
        if oid in before and table.has_rows and table.file != before[oid].file:
            schema, name = table.name.split(".", 1)
            counting = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))
            found[table.name] = int(fetch_value(connection, counting))
    return dict(sorted(found.items()))


def _written(
    before: Mapping[int, Relation], after: Mapping[int, Relation]
) -> dict[str, dict[str, int]]:
    found = {}
    for oid, table in after.items():
        old = before.get(oid, Relation(table.name, 0, True, 0, 0, 0))
        counts = {
            "inserted": table.inserted - old.inserted,
            "updated": table.updated - old.updated,
            "deleted": table.deleted - old.deleted,
        }
        if table.name != _BOOKKEEPING and any(counts.values()):
            found[table.name] = counts
    return dict(sorted(found.items()))


def check_deferred(connection: Connection) -> None:
    """Check now what would be checked at the end of the transaction, and go on deferring.

    PostgreSQL alters no table on which such a check is pending; between two transactions there
    would be none.
    """
    execute(connection, "SET CONSTRAINTS ALL IMMEDIATE")
    rows = fetch_all(connection, _file("deferred"))
    if rows:
        names = sql.SQL(", ").join(sql.Identifier(schema, name) for schema, name in rows)
        execute(connection, sql.SQL("SET CONSTRAINTS {} DEFERRED").format(names))


def _file(name: str) -> str:
    return (_FILES / f"{name}.sql").read_text(encoding="utf-8")
