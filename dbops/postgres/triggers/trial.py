"""Each trigger of ours fired on a real row, in a transaction that is rolled back.

An INSERT is tried with a row that is there: ``ON CONFLICT DO UPDATE`` sees in EXCLUDED what the
triggers made of it, though it never comes in, so that no key, no sequence and no other table is in
the way. What triggers of others do meanwhile is rolled back as well, notifications included; only
what they do outside the database, or to sequences, is not. Numbers of the row history move on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import psycopg2
from psycopg2 import sql

from dbops.exceptions import StatementError
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_row, fetch_value
from dbops.postgres.names import quoted_name
from dbops.postgres.process import Poll
from dbops.postgres.triggers.planning import require_schemas
from dbops.postgres.triggers.survey import FUNCTIONS, Trigger, file, survey
from dbops.postgres.triggers.wishes import Wishes

ACTOR = "skinspire-test"
"""Who acts while it is tried. Longer than most columns, to see it shortened."""
_LOCK_TIMEOUT = "2s"
_COLUMNS = {
    "set_timestamps": ("created_at", "updated_at"), "set_created_at": ("created_at",),
    "set_updated_at": ("updated_at",), "set_actors": ("created_by", "updated_by"),
    "set_created_by": ("created_by",), "set_updated_by": ("updated_by",),
    "set_actor_ids": ("created_by", "updated_by"), "set_created_by_id": ("created_by",),
    "set_updated_by_id": ("updated_by",),
}  # fmt: skip
_KEPT = frozenset({"created_at", "created_by"})
"""An UPDATE of these may come to nothing: a trigger of ours keeps them as they were."""
_ANYTIME = "2001-02-03 04:05:06"
_EITHER = {
    "timestamp": (f"'{_ANYTIME}'", "'2002-03-04'"), "date": ("'2001-02-03'", "'2002-03-04'"),
    "time": ("'01:02'", "'03:04'"), "boolean": ("true", "false"), "": ("'1'", "'2'"),
}  # fmt: skip
"""Two values for types that begin like this: one of them is another than what a row holds."""
Step = Callable[[int, int], None]
"""Hears (done, total) of the tables."""


@dataclass(frozen=True)
class Trial:
    """What became of one trigger."""

    label: str
    outcome: str
    """``passed``, ``failed`` or ``untested``."""
    reason: str = ""


@dataclass(frozen=True)
class _Row:
    """A real row, and the table that holds it: of a partitioned table, a partition."""

    table: str
    """Quoted."""
    ctid: str
    types: Mapping[str, str]
    """{column: type} of those that can be written."""
    free: Sequence[str]
    """Columns of which no rule is known."""
    key: str | None
    """The constraint by which a second one like it would be noticed."""
    later: Sequence[str]
    """Triggers of others before a row is written, by which it may be changed again."""
    cascades: bool
    """Whether deleting it would change rows of other tables."""


class _Untested(Exception):
    """It could not be tried; why."""


def fire_all(
    connection: Connection,
    wishes: Wishes,
    *,
    schemas: Sequence[str] | None = None,
    poll: Poll,
    step: Step,
) -> list[Trial]:
    """Fire every trigger of ours that is attached. Nothing of it stays.

    Raises:
        PreflightError: a schema does not exist.
    """
    require_schemas(connection, schemas)
    attached = [
        it for it in survey(connection, schemas, wishes) if it.function and it.state != "missing"
    ]
    tables = [list(group) for _, group in groupby(attached, lambda it: (it.schema, it.table))]
    identity = _some_user(connection, wishes)
    trials: list[Trial] = []
    for number, group in enumerate(tables):
        poll()
        step(number, len(tables))
        with _undone(connection):
            trials += _try_table(connection, group, identity)
    return trials


@contextmanager
def _undone(connection: Connection) -> Iterator[None]:
    execute(connection, "BEGIN")
    try:
        yield
    finally:
        execute(connection, "ROLLBACK")


def _try_table(connection: Connection, group: list[Trigger], identity: str) -> list[Trial]:
    for name, value in (
        ("lock_timeout", _LOCK_TIMEOUT), ("timezone", "UTC"),
        ("skinspire.actor", ACTOR), ("skinspire.actor_id", identity),
    ):  # fmt: skip
        execute(connection, "SELECT set_config(%s, %s, true)", [name, value])
    execute(connection, "SET CONSTRAINTS ALL DEFERRED")
    try:
        row = _some_row(connection, group[0])
    except (_Untested, StatementError) as error:
        return [Trial(it.label, "untested", str(error)) for it in group]
    return [_try(connection, trigger, row, identity) for trigger in group]


def _try(connection: Connection, trigger: Trigger, row: _Row, identity: str) -> Trial:
    if trigger.state != "installed":
        words = {"changed": "it is outdated", "disabled": "it is disabled"}
        return Trial(trigger.label, "failed", words.get(trigger.state, trigger.state))
    try:
        if trigger.function == "record_history":
            told = _try_history(connection, trigger, row)
        else:
            told = _try_stamps(connection, trigger, row, identity)
    except _Untested as error:
        return Trial(trigger.label, "untested", str(error))
    except StatementError as error:
        return Trial(trigger.label, "failed" if _is_ours(error) else "untested", str(error))
    later = [name for name in row.later if name > trigger.name]
    if told and later:
        return Trial(trigger.label, "untested", f"{', '.join(later)} fires after it: {told}")
    return Trial(trigger.label, "failed" if told else "passed", told)


def _is_ours(error: StatementError) -> bool:
    """Said by one of the functions that are tried; what apps bring lives in the same schema."""
    cause = error.__cause__
    where = (cause.diag.context or "") if isinstance(cause, psycopg2.Error) else ""
    return any(f"function skinspire.{name}(" in where for name in FUNCTIONS)


def _some_user(connection: Connection, wishes: Wishes) -> str:
    """The key of a user; "" where there is none."""
    found = fetch_row(
        connection,
        """SELECT format('SELECT %%I::text FROM %%I.%%I LIMIT 1', a.attname, n.nspname, c.relname)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary AND i.indnatts = 1
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
            WHERE n.nspname || '.' || c.relname = %s""",
        [wishes.users],
    )
    return str(fetch_value(connection, found[0]) or "") if found else ""


def _some_row(connection: Connection, trigger: Trigger) -> _Row:
    partitioned = fetch_value(
        connection,
        """SELECT c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = %s""",
        [trigger.schema, trigger.table],
    )
    # Rows of tables that inherit from it would fire triggers of their own.
    place = f"{quoted_name(trigger.schema)}.{quoted_name(trigger.table)}"
    found = fetch_row(
        connection,
        f"""SELECT tableoid, ctid::text FROM {"" if partitioned else "ONLY "}{place}
             LIMIT 1 FOR UPDATE SKIP LOCKED""",
    )
    if found is None:
        raise _Untested("the table holds no row that is free")
    table, *facts = fetch_row(connection, file("trial"), [found[0]]) or ()
    return _Row(table, found[1], *facts)


def _try_stamps(connection: Connection, trigger: Trigger, row: _Row, identity: str) -> str:
    """What is not as it should be; "" where all is."""
    if trigger.name == "skinspire_actor_ids" and not identity:
        raise _Untested("there is no user who could act")
    stamps = _stamps(connection, trigger, row, identity)
    with _savepoint(connection):
        if not fetch_value(connection, _insert(row, stamps)):
            return "an INSERT is not stamped as it should be"
    with _savepoint(connection):
        return _judged(connection, _update(row, stamps))


@dataclass(frozen=True)
class _Stamp:
    """A column that the trigger fills."""

    column: str
    since: str
    """What it holds once it is stamped: the end of a comparison."""
    other: str
    """A value that it must not keep."""
    moves: bool
    """With every UPDATE."""


def _stamps(connection: Connection, trigger: Trigger, row: _Row, identity: str) -> list[_Stamp]:
    found = []
    for place, column in enumerate(_COLUMNS[trigger.function or ""]):
        kind = row.types[column]
        if trigger.name == "skinspire_timestamps":
            since, other = f">= pg_catalog.now()::{kind}", f"'{_ANYTIME}'::{kind}"
        elif trigger.name == "skinspire_actor_ids":
            other = f"{_literal(connection, identity)}::{kind}"
            since = f"= {other}"
        else:
            length = (trigger.arguments or ("",))[place]
            name = ACTOR[: int(length)] if length else ACTOR
            since, other = f"= {_literal(connection, name)}", "'x'"
        found.append(_Stamp(column, since, other, column.startswith("updated")))
    return found


def _insert(row: _Row, stamps: Sequence[_Stamp]) -> str:
    """A row like the one that is there, its stamps left to the trigger; true where it set them."""
    ours = [it.column for it in stamps]
    names = ", ".join(map(quoted_name, row.types))
    values = ", ".join("NULL" if name in ours else quoted_name(name) for name in row.types)
    statement = (
        f"INSERT INTO {row.table} AS mine ({names}) OVERRIDING SYSTEM VALUE"
        f" SELECT {values} FROM ONLY {row.table} WHERE ctid = '{row.ctid}'"
    )

    def met(alias: str) -> str:
        return " AND ".join(f"{alias}.{it.column} {it.since}" for it in stamps)

    if row.key is None:
        return f"{statement} RETURNING {met('mine')}"
    first = stamps[0].column
    return (
        f"{statement} ON CONFLICT ON CONSTRAINT {quoted_name(row.key)}"
        f" DO UPDATE SET {first} = mine.{first} WHERE {met('excluded')} RETURNING true"
    )


def _update(row: _Row, stamps: Sequence[_Stamp]) -> str:
    """The row with other stamps; true where the trigger saw to it that they are right."""
    written = ", ".join(f"{it.column} = {it.other}" for it in stamps)
    met = " AND ".join(
        f"mine.{it.column} {it.since}"
        if it.moves
        else f"mine.{it.column} IS NOT DISTINCT FROM was.{it.column}"
        for it in stamps
    )
    return (
        f"UPDATE ONLY {row.table} AS mine SET {written}"
        f" FROM (SELECT * FROM ONLY {row.table} WHERE ctid = '{row.ctid}') was"
        f" WHERE mine.ctid = '{row.ctid}' RETURNING {met}"
    )


def _judged(connection: Connection, statement: str) -> str:
    """What is wrong with an UPDATE; "" where nothing is."""
    found = fetch_row(connection, statement)
    if found is None:
        raise _Untested("another trigger keeps the row from being updated")
    return "" if found[0] else "an UPDATE is not stamped as it should be"


def _try_history(connection: Connection, trigger: Trigger, row: _Row) -> str:
    """By an UPDATE where one changes the row for certain, else by taking the row away."""
    with _savepoint(connection):
        told = fetch_all(connection, _change(trigger, row))
        if not told:
            raise _Untested("another trigger keeps the row as it is")
        recorded = fetch_value(
            connection,
            """SELECT EXISTS (SELECT FROM skinspire.row_history
                    WHERE transaction_id = pg_current_xact_id()::text::bigint AND actor = %s
                      AND (table_schema, table_name) = (%s, %s))""",
            [ACTOR, trigger.schema, trigger.table],
        )
    return "" if recorded else "what became of a row was not recorded"


def _change(trigger: Trigger, row: _Row) -> str:
    """What certainly changes the row in a column that is recorded. Raises _Untested."""
    which = f"WHERE ctid = '{row.ctid}' RETURNING true"
    hidden = re.compile((trigger.arguments or ("", ""))[1], re.IGNORECASE)
    for name in row.free:
        if name not in _KEPT and not hidden.search(name):
            column, kind = quoted_name(name), row.types[name]
            one, other = _EITHER[next((it for it in _EITHER if kind.startswith(it)), "")]
            value = f"CASE WHEN {column} = {one}::{kind} THEN {other} ELSE {one} END::{kind}"
            return f"UPDATE ONLY {row.table} SET {column} = {value} {which}"
    if row.cascades:
        raise _Untested("nothing of a row can be changed that would not change other tables")
    return f"DELETE FROM ONLY {row.table} {which}"


@contextmanager
def _savepoint(connection: Connection) -> Iterator[None]:
    """Undone at the end, however it ends."""
    execute(connection, "SAVEPOINT trial")
    try:
        yield
    finally:
        execute(connection, "ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial")


def _literal(connection: Connection, text: str) -> str:
    return str(sql.Literal(text).as_string(connection))
