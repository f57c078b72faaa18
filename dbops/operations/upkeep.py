"""Maintaining a database where the catalogue says it is due. Readers and writers go on meanwhile:
nothing here takes a lock that would stop them.

Vacuuming and analysing are due where the server's own autovacuum would find them due, by the same
thresholds; freezing earlier, half-way to where autovacuum must; an index where it is invalid, or
where more than half of it and at least 8 MiB hold nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from dbops.exceptions import DbopsError, StatementError
from dbops.operations.context import OperationContext
from dbops.operations.inspection import InspectRequest, plan_in_place
from dbops.postgres import upkeep
from dbops.postgres.connection import Connection, apply_settings, fetch_all_polled, session
from dbops.postgres.names import qualified
from dbops.postgres.process import Poll, do_not_poll
from dbops.postgres.upkeep import IndexDue, TableDue, held_by_others, leftovers, named
from dbops.wording import counted, grouped

BLOATED = 0.5
WASTED = 8 << 20
"""Bytes."""
_PATIENCE_SECONDS = 10.0
"""How long an index waits for transactions on its table before it is left for another time."""
_WAITING = {"lock_timeout": "10s"}


@dataclass(frozen=True)
class Action:
    """One thing that is due."""

    object: str
    """As "schema.name", quoted where it needs it."""
    verb: str
    """``analyse``, ``vacuum``, ``freeze``, ``reindex`` or ``drop``."""
    reason: str
    state: str = "due"
    """due · done · skipped."""
    why_not: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class MaintainRequest:
    """Which database to maintain."""

    target: InspectRequest
    dry_run: bool = False


@dataclass(frozen=True)
class MaintainResult:
    """What was done, or would be."""

    actions: tuple[Action, ...]


@dataclass(frozen=True)
class _Step:
    action: Action
    statement: str
    schema: str
    name: str
    table: str
    why_not: str = ""


def maintain_db(request: MaintainRequest, context: OperationContext) -> MaintainResult:
    """Do what is due, one statement after another; what cannot be done is told and passed over.

    Raises:
        OperationCancelled: the statement was ended, and no half-built index stays behind.
        StampError, PreflightError: the database is another's, or does not exist.
    """
    context.step("look what is due")
    plan_in_place(request.target, writing=not request.dry_run)
    params = request.target.database
    with session(params, application=context.application) as connection:
        steps = [*_table_steps(connection), *_index_steps(connection)]
        if request.dry_run:
            return MaintainResult(tuple(_told(it) for it in steps))
        apply_settings(connection, _WAITING)
        done = []
        for number, step in enumerate(steps):
            context.step(f"{step.action.verb} {step.action.object}", number, len(steps))
            done.append(_told(step) if step.why_not else _do(connection, step, context))
        return MaintainResult(tuple(done))


def _table_steps(connection: Connection) -> Iterator[_Step]:
    for table in upkeep.tables_due(connection):
        if not (table.freeze or table.vacuum or table.analyse):
            continue
        verb, statement = _verb(table)
        name = qualified(table.schema, table.name)
        why_not = "" if table.may else f"it belongs to {table.owner}"
        action = Action(name, verb, "; ".join(_reasons(table)))
        yield _Step(action, statement, table.schema, table.name, table.name, why_not)


def _verb(table: TableDue) -> tuple[str, str]:
    if table.freeze:
        return "freeze", "VACUUM (FREEZE, ANALYZE) {}"
    if table.vacuum:
        return "vacuum", "VACUUM (ANALYZE) {}"
    return "analyse", "ANALYZE {}"


def _reasons(table: TableDue) -> Iterator[str]:
    if table.freeze:
        yield f"its oldest row is {table.age:,} transactions old"
    if table.vacuum and table.dead >= table.inserted:
        yield f"{counted(table.dead, 'dead row', write=grouped)} beside {table.rows:,}"
    elif table.vacuum:
        yield f"{counted(table.inserted, 'row', write=grouped)} inserted since it was vacuumed"
    if table.analyse:
        yield (
            "never analysed"
            if table.unknown
            else f"{counted(table.changed, 'row', write=grouped)} changed since analysed"
        )


def _index_steps(connection: Connection) -> Iterator[_Step]:
    for index in upkeep.indexes_due(connection):
        reason = _index_reason(index)
        if not reason:
            continue
        verb, statement = "reindex", "REINDEX INDEX CONCURRENTLY {}"
        if index.leftover:
            verb, statement = "drop", "DROP INDEX CONCURRENTLY IF EXISTS {}"
        why_not = ""
        if not (index.may_drop if index.leftover else index.may):
            why_not = f"it belongs to {index.owner}"
        elif index.busy and not index.valid:
            why_not = "somebody is working on it"
        action = Action(qualified(index.schema, index.name), verb, reason)
        yield _Step(action, statement, index.schema, index.name, index.table, why_not)


def _index_reason(index: IndexDue) -> str:
    """Why it is due; "" where it is not."""
    if index.leftover:
        return "left behind by a REINDEX CONCURRENTLY that did not end"
    if not index.valid:
        return "invalid: written to, and used by no query"
    wasted = index.size - index.needed if index.needed is not None else 0
    if wasted >= WASTED and wasted > BLOATED * index.size:
        return f"{wasted / index.size:.0%} of its {index.size >> 20} MiB hold nothing, estimated"
    return ""


def _told(step: _Step) -> Action:
    action = step.action
    state = "skipped" if step.why_not else "due"
    return Action(action.object, action.verb, action.reason, state, step.why_not)


def _do(connection: Connection, step: _Step, context: OperationContext) -> Action:
    action = step.action
    began = time.monotonic()
    try:
        _execute(connection, step, context)
    except StatementError as error:
        why_not = f"{error}"
        if "lock timeout" in why_not:
            why_not = "another session holds it"
        context.log(f"{action.object} was not maintained: {why_not}")
        return Action(action.object, action.verb, action.reason, "skipped", why_not)
    seconds = round(time.monotonic() - began, 3)
    return Action(action.object, action.verb, action.reason, "done", "", seconds)


def _execute(connection: Connection, step: _Step, context: OperationContext) -> None:
    statement = named(step.statement, step.schema, step.name)
    if step.action.verb != "reindex":
        fetch_all_polled(connection, statement, context.check_cancelled)
        return
    _wait_until_free(connection, step, context.check_cancelled)
    before = leftovers(connection, step.schema, step.table)
    try:
        fetch_all_polled(connection, statement, context.check_cancelled)
    except BaseException:
        _clear_up(connection, step, before, context)
        raise


def _wait_until_free(connection: Connection, step: _Step, poll: Poll) -> None:
    """A backup, say, holds all tables until it ends: what waits for it could not be cleared up
    before either."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while held_by_others(connection, step.schema, step.table):
        if time.monotonic() > deadline:
            raise StatementError("a transaction that is open uses its table; run it again later")
        poll()
        time.sleep(0.1)


def _clear_up(
    connection: Connection, step: _Step, before: set[str], context: OperationContext
) -> None:
    """Drop what a REINDEX that was ended has half built. No cancel is heard meanwhile."""
    try:
        for name in sorted(leftovers(connection, step.schema, step.table) - before):
            statement = named("DROP INDEX CONCURRENTLY IF EXISTS {}", step.schema, name)
            fetch_all_polled(connection, statement, do_not_poll)
    except DbopsError as error:
        context.log(f"A half-built index of {step.action.object} stays for the next run: {error}")
