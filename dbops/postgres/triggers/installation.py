"""Installing all triggers or none, and taking all of them off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2 import errors, sql

from dbops.exceptions import LockedError, PrivilegeError, StatementError
from dbops.postgres.connection import (
    Connection,
    execute,
    fetch_all,
    fetch_all_polled,
    fetch_value,
    transaction,
)
from dbops.postgres.process import Poll
from dbops.postgres.stamp import SCHEMA
from dbops.postgres.triggers import event, history
from dbops.postgres.triggers.legacy import Replaced, put_back_commands
from dbops.postgres.triggers.planning import (
    Command,
    Installation,
    make_plan,
    require_privileges,
    require_schemas,
)
from dbops.postgres.triggers.sets import install_sets
from dbops.postgres.triggers.survey import FUNCTIONS, file, functions, survey
from dbops.postgres.triggers.wishes import NOTHING, Wishes
from dbops.wording import counted

LOCK_TIMEOUT = 5.0
"""Seconds to wait for each table."""
_EVENT_FUNCTION = "attach_triggers"


def record_nothing(replaced: Replaced) -> None:
    """For who keeps the result itself."""


def nothing_more() -> None:
    """Most transactions simply end."""


@dataclass(frozen=True)
class Removal:
    """What of ours was taken off, or would be."""

    functions: int
    triggers: int
    tables: int
    kept: tuple[str, ...]
    """What stays, and why."""
    statements: tuple[str, ...]


def plan(
    connection: Connection,
    wishes: Wishes = NOTHING,
    *,
    schemas: Sequence[str] | None = None,
    base_only: bool = False,
    replace_legacy: bool = False,
) -> Installation:
    """What :func:`install` would do; nothing is written, and what it refuses is refused."""
    return make_plan(
        connection, wishes, schemas, base_only=base_only, replace_legacy=replace_legacy
    ).outcome


def install(
    connection: Connection,
    wishes: Wishes = NOTHING,
    *,
    schemas: Sequence[str] | None = None,
    base_only: bool = False,
    replace_legacy: bool = False,
    record: Callable[[Replaced], None] = record_nothing,
    poll: Poll,
    finish: Callable[[], None] = nothing_more,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Installation:
    """Bring functions and triggers to this version, all or none; what is there is not touched.

    Args:
        connection: one of :func:`connect`, or one in a transaction of which this becomes part.
        schemas: only tables of these; None for all.
        base_only: the functions alone.
        replace_legacy: triggers of the earlier system give way where ours do their work.
        record: keeps what gives way, before the transaction commits: without it none could come
            back.
        finish: called last in the transaction.
        lock_timeout: seconds to wait for each table.

    Raises:
        PreflightError: a schema does not exist.
        PrivilegeError: names everything the connecting role may not change.
        LockedError: names the table another session held for ``lock_timeout``.
        StatementError: names the table at which the server refused.
    """
    with _changing(connection, lock_timeout):
        todo = make_plan(
            connection, wishes, schemas, base_only=base_only, replace_legacy=replace_legacy
        )
        if todo.stale:
            _install_functions(connection, todo.stale)
        if todo.history:
            history.make(connection)
        if todo.commands:
            run_commands(connection, todo.commands, poll, lock_timeout)
        if todo.event:
            execute(connection, todo.event)
        install_sets(connection, todo.sets)
        if todo.outcome.replaced:
            record(todo.outcome.replaced)
        finish()
    return todo.outcome


def put_back(
    connection: Connection,
    replaced: Replaced,
    *,
    poll: Poll,
    finish: Callable[[], None] = nothing_more,
    lock_timeout: float = LOCK_TIMEOUT,
) -> int:
    """Triggers of the earlier system back as they were, those of ours that had taken their place
    off: all or none. How many came back.

    Raises:
        PreflightError: the database has changed so that they cannot come back as they were.
        PrivilegeError, LockedError, StatementError: as :func:`install`.
    """
    with _changing(connection, lock_timeout):
        commands = put_back_commands(connection, replaced)
        places = {(it.schema, it.table) for it in replaced.triggers}
        require_privileges(connection, [], places, "Nothing was put back")
        run_commands(connection, commands, poll, lock_timeout, "Nothing was put back")
        finish()
    return len(replaced.triggers)


def remove(
    connection: Connection,
    *,
    schemas: Sequence[str] | None = None,
    dry_run: bool = False,
    poll: Poll,
    finish: Callable[[], None] = nothing_more,
    lock_timeout: float = LOCK_TIMEOUT,
) -> Removal:
    """Take all of ours off, all or nothing: triggers, functions that nobody needs any more, the
    event trigger, and the row history where it is empty.

    Raises:
        PreflightError, PrivilegeError, LockedError, StatementError: as :func:`install`.
    """
    what = "No trigger was removed"
    with _changing(connection, lock_timeout, undone=dry_run):
        require_schemas(connection, schemas)
        found = [it for it in survey(connection, schemas) if it.fact and it.state != "inherited"]
        # One that a partition inherited and somebody disabled goes with its parent's.
        own = [it for it in found if _is_own(connection, it.schema, it.table)]
        require_privileges(connection, [], {(it.schema, it.table) for it in own}, what)
        drop = sql.SQL("DROP TRIGGER {} ON {}")
        commands = [
            (
                drop.format(sql.Identifier(it.name), sql.Identifier(it.schema, it.table)).as_string(
                    connection
                ),
                it.relation,
            )
            for it in own
        ]
        run_commands(connection, commands, poll, lock_timeout, what)
        statements, kept = _remove_rest(connection)
        finish()
    return Removal(
        functions=sum(it.startswith("DROP FUNCTION") for it in statements),
        triggers=len(own),
        tables=len({it.relation for it in own}),
        kept=tuple(kept),
        statements=(*(command for command, _ in commands), *statements),
    )


def _is_own(connection: Connection, schema: str, table: str) -> bool:
    return not fetch_value(
        connection,
        """SELECT c.relispartition FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = %s""",
        [schema, table],
    )


def _remove_rest(connection: Connection) -> tuple[list[str], list[str]]:
    """(what was executed, what is kept and why), once the triggers are gone."""
    kept: list[str] = []
    statements: list[str] = []

    def carry_out(statement: str) -> None:
        execute(connection, statement)
        statements.append(statement)

    if fetch_all(connection, "SELECT FROM pg_event_trigger WHERE evtname = %s", [event.NAME]):
        if not event.may(connection):
            raise PrivilegeError(
                "No trigger was removed: the event trigger would put them on again, and only a "
                "superuser may drop it."
            )
        carry_out(f"DROP EVENT TRIGGER {event.NAME}")
    rows = history.count(connection)
    if rows:
        kept.append(f"{history.TABLE} holds {counted(rows, 'row')}")
    elif rows is not None and not _is_recorded(connection):
        carry_out(f"DROP TABLE {history.TABLE}")
    for name in _idle_functions(connection):
        carry_out(f"DROP FUNCTION {SCHEMA}.{name}()")
    rest = {it.name for it in functions(connection) if it.fingerprint}
    kept += [f"function {SCHEMA}.{name} is used by triggers that stay" for name in sorted(rest)]
    return statements, kept


def _is_recorded(connection: Connection) -> bool:
    return "record_history" not in _idle_functions(connection)


def _idle_functions(connection: Connection) -> list[str]:
    """Functions of ours that no trigger uses."""
    rows = fetch_all(
        connection,
        """SELECT p.proname FROM pg_proc p
            WHERE p.pronamespace = to_regnamespace('skinspire') AND p.pronargs = 0
              AND p.proname = ANY (%s) AND NOT EXISTS (
                  SELECT FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass
                     AND d.refobjid = p.oid)
            ORDER BY 1""",
        [[*FUNCTIONS, _EVENT_FUNCTION]],
    )
    return [name for (name,) in rows]


@contextmanager
def _changing(
    connection: Connection, lock_timeout: float, *, undone: bool = False
) -> Iterator[None]:
    """One transaction that waits ``lock_timeout`` seconds for each table, committed or undone."""
    with transaction(connection):
        limit = f"{round(lock_timeout * 1000)}ms"
        execute(connection, "SELECT set_config('lock_timeout', %s, true)", [limit])
        if undone:
            execute(connection, "SAVEPOINT rehearsal")
        yield
        if undone:
            execute(connection, "ROLLBACK TO SAVEPOINT rehearsal")


def _install_functions(connection: Connection, names: list[str]) -> None:
    # IF NOT EXISTS would ask for the right to create schemas even where there is one.
    if not fetch_all(connection, "SELECT FROM pg_namespace WHERE nspname = %s", [SCHEMA]):
        execute(connection, sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    execute(connection, "\n".join(map(file, names)))
    comments = [
        sql.SQL("COMMENT ON FUNCTION {}() IS {}").format(
            sql.Identifier(SCHEMA, function.name), sql.Literal(function.comment)
        )
        for function in functions(connection)
        if function.name in names
    ]
    execute(connection, sql.SQL(";").join(comments))


def run_commands(
    connection: Connection,
    commands: list[Command],
    poll: Poll,
    lock_timeout: float,
    what: str = "No trigger was installed",
) -> None:
    """Run them in one round trip; what fails is told with the table it was about."""
    block = sql.SQL(file("install")).format(
        commands=sql.Literal([command for command, _ in commands]),
        labels=sql.Literal([table for _, table in commands]),
    )
    body = sql.Literal(block.as_string(connection))
    try:
        fetch_all_polled(connection, sql.SQL("DO {}").format(body), poll)
    except StatementError as error:
        raise _named(error, lock_timeout, what) from error


def _named(error: StatementError, lock_timeout: float, what: str) -> StatementError | LockedError:
    """The same failure, with the table at which it happened."""
    cause = error.__cause__
    if not isinstance(cause, psycopg2.Error) or cause.diag.table_name is None:
        return error
    table = f"{what}: table {cause.diag.table_name}"
    if isinstance(cause, errors.LockNotAvailable):
        return LockedError(f"{table} was held by another session for over {lock_timeout:g} s.")
    return StatementError(f"{table}: {error}", hint=cause.diag.message_hint or "")
