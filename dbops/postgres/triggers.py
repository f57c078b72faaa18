"""Triggers that stamp rows with time and actor: what there should be, what there is, installing.

What should be follows from the columns, what is from the server's catalogue; nothing is recorded
elsewhere. Digests in the comments of functions and triggers tell ours of this version.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import psycopg2
from psycopg2 import errors, sql

from dbops.exceptions import LockedError, PreflightError, PrivilegeError, StatementError
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_all_polled, transaction
from dbops.postgres.process import Poll
from dbops.postgres.stamp import SCHEMA

LOCK_TIMEOUT = 5.0
"""Seconds to wait for each table."""
_FUNCTIONS = (
    "set_timestamps", "set_created_at", "set_updated_at",
    "set_actors", "set_created_by", "set_updated_by",
)  # fmt: skip
_FILES = Path(__file__).parents[1] / "sql" / "triggers"
_ENABLE = "ALTER TABLE {table} ENABLE TRIGGER {trigger}"
_DROP = "DROP TRIGGER {trigger} ON {table}"
_CREATE = """CREATE OR REPLACE TRIGGER {trigger} BEFORE INSERT OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {function}({arguments});
COMMENT ON TRIGGER {trigger} ON {table} IS {comment}"""


@dataclass(frozen=True)
class Installation:
    """What is in place after :func:`install`, or would be after what :func:`plan` lists."""

    functions: int
    triggers: int
    tables: int
    skipped: tuple[str, ...]
    """Columns of our names that cannot be served: "schema.table: column is type"."""
    statements: tuple[str, ...]
    """Files and commands that were, or would be, executed; none where all is in place already."""


@dataclass(frozen=True)
class TriggerStatus:
    """Triggers by state, each as "schema.table: trigger"."""

    installed: tuple[str, ...]
    outdated: tuple[str, ...]
    disabled: tuple[str, ...]
    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    """Other people's, on tables that have ours; left alone."""

    @property
    def drift(self) -> bool:
        """True where :func:`install` would change a trigger; foreign ones are no drift."""
        return bool(self.outdated or self.disabled or self.missing)


@dataclass(frozen=True)
class _Function:
    """One row of ``functions.sql``."""

    name: str
    fingerprint: str | None
    """None where it does not exist."""
    comment: str | None
    current: bool


class _Trigger(NamedTuple):
    """One row of ``survey.sql``."""

    schema: str
    table: str
    name: str
    state: str
    function: str | None
    """Without its schema; None where no trigger should be."""
    arguments: Sequence[str] | None
    comment: str | None
    fact: str | None
    """What :func:`digest` is made of; None where there is no trigger of ours."""

    @property
    def relation(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def label(self) -> str:
        return f"{self.relation}: {self.name}"


@dataclass(frozen=True)
class _Plan:
    """What to do, and what is then in place."""

    stale: list[str]
    commands: list[tuple[str, _Trigger]]
    outcome: Installation


def status(connection: Connection) -> TriggerStatus:
    """The state of every trigger that is ours, should be, or shares a table with ours."""
    states: dict[str, list[str]] = defaultdict(list)
    for trigger, state in _states(connection):
        states[state].append(trigger.label)
    names = ("installed", "outdated", "disabled", "missing", "foreign")
    return TriggerStatus(*(tuple(states[name]) for name in names))


def present(connection: Connection) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Of each trigger of ours that is there, by schema, table and name: its state as in
    :class:`TriggerStatus`, and what :func:`digest` is made of; those that a partition inherits
    left out."""
    return {
        (trigger.schema, trigger.table, trigger.name): (state, trigger.fact)
        for trigger, state in _states(connection)
        if trigger.fact is not None and state != "inherited"
    }


def digest(connection: Connection) -> str:
    """SHA-256 over our triggers and functions as they are, enabled or not; "" where there is none.

    Equal in a database and in its faithful copy, also on another major version.
    """
    triggers = [[it.label, it.fact] for it in _survey(connection) if it.fact is not None]
    functions = [[it.name, it.fingerprint] for it in _functions(connection)]
    return _hash(json.dumps([triggers, functions])) if triggers else ""


def plan(
    connection: Connection, *, schemas: Sequence[str] | None = None, base_only: bool = False
) -> Installation:
    """What :func:`install` would do; nothing is written, and what it refuses is refused."""
    return _plan(connection, schemas, base_only).outcome


def install(
    connection: Connection,
    *,
    schemas: Sequence[str] | None = None,
    base_only: bool = False,
    poll: Poll,
    lock_timeout: float = LOCK_TIMEOUT,
    beside: Callable[[Connection], object] = lambda _: None,
) -> Installation:
    """Bring functions and triggers to this version, all or none; what is there is not touched.

    Args:
        connection: one of :func:`connect`, or one in a transaction of which this becomes part.
        schemas: only tables of these; None for all.
        base_only: the functions alone.
        lock_timeout: seconds to wait for each table.
        beside: installs more in the same transaction.

    Raises:
        PreflightError: a schema does not exist.
        PrivilegeError: names everything the connecting role may not change.
        LockedError: names the table another session held for ``lock_timeout``.
        StatementError: names the table at which the server refused.
    """
    with transaction(connection):
        limit = f"{round(lock_timeout * 1000)}ms"
        execute(connection, "SELECT set_config('lock_timeout', %s, true)", [limit])
        todo = _plan(connection, schemas, base_only)
        if todo.stale:
            _install_functions(connection, todo.stale)
        if todo.commands:
            _run(connection, todo.commands, poll, lock_timeout)
        beside(connection)
    return todo.outcome


@cache
def _file(name: str) -> str:
    return (_FILES / f"{name}.sql").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _sources() -> str:
    return json.dumps({name: _hash(_file(name)) for name in _FUNCTIONS})


def _functions(connection: Connection) -> list[_Function]:
    return [_Function(*row) for row in fetch_all(connection, _file("functions"), [_sources()])]


def _stale(connection: Connection) -> list[str]:
    """Functions that are missing or not as this version makes them."""
    return [function.name for function in _functions(connection) if not function.current]


def _survey(connection: Connection, schemas: Sequence[str] | None = None) -> list[_Trigger]:
    scope = None if schemas is None else list(schemas)
    return [_Trigger(*r) for r in fetch_all(connection, _file("survey"), [scope, _sources()])]


def _states(connection: Connection) -> list[tuple[_Trigger, str]]:
    """Every trigger of the survey with its state, that of its function taken into account."""
    stale = _stale(connection)
    found = []
    for trigger in _survey(connection):
        behind = trigger.function in stale and trigger.state != "missing"
        outdated = behind or trigger.state in ("changed", "obsolete")
        found.append((trigger, "outdated" if outdated else trigger.state))
    return found


def _plan(connection: Connection, schemas: Sequence[str] | None, base_only: bool) -> _Plan:
    _require_schemas(connection, schemas)
    stale = _stale(connection)
    survey = [] if base_only else _survey(connection, schemas)
    commands = _commands(connection, survey)
    _require_privileges(connection, stale, [trigger for _, trigger in commands])
    wanted = [trigger for trigger in survey if trigger.function]
    outcome = Installation(
        functions=len(_FUNCTIONS),
        triggers=len(wanted),
        tables=len({trigger.relation for trigger in wanted}),
        skipped=tuple(trigger.label for trigger in survey if trigger.state == "skipped"),
        statements=(*map(_file, stale), *(command for command, _ in commands)),
    )
    return _Plan(stale, commands, outcome)


def _commands(connection: Connection, survey: list[_Trigger]) -> list[tuple[str, _Trigger]]:
    # Enabling comes first: dropping a trigger takes its heirs on partitions along.
    templates = {"disabled": _ENABLE, "obsolete": _DROP, "missing": _CREATE, "changed": _CREATE}
    quote = cache(lambda *names: sql.Identifier(*names).as_string(connection))
    return [
        (
            template.format(
                table=quote(trigger.schema, trigger.table),
                trigger=quote(trigger.name),
                function=quote(SCHEMA, trigger.function or ""),
                arguments=", ".join(f"'{length}'" for length in trigger.arguments or ()),
                comment=f"'{trigger.comment}'",
            ),
            trigger,
        )
        for state, template in templates.items()
        for trigger in survey
        if trigger.state == state
    ]


def _require_schemas(connection: Connection, schemas: Sequence[str] | None) -> None:
    rows = fetch_all(
        connection,
        """SELECT s FROM unnest(%s::text[]) s WHERE s IN ('information_schema', 'skinspire')
              OR s ~ '^pg_' OR s NOT IN (SELECT nspname FROM pg_namespace)""",
        [list(schemas or ())],
    )
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise PreflightError(f"There is no schema for tables of yours named {names}.")


def _require_privileges(connection: Connection, stale: list[str], triggers: list[_Trigger]) -> None:
    tables = {(trigger.schema, trigger.table) for trigger in triggers}
    schemas, names = [schema for schema, _ in tables], [name for _, name in tables]
    rows = fetch_all(connection, _file("refusals"), [schemas, names, list(_FUNCTIONS), stale])
    if rows:
        raise PrivilegeError(
            "No trigger was installed, because the connecting role may not change "
            f"{', '.join(label for (label,) in rows)}.",
            hint="Connect as their owner, or as a member of the role that owns them.",
        )


def _install_functions(connection: Connection, names: list[str]) -> None:
    # IF NOT EXISTS would ask for the right to create schemas even where there is one.
    if not fetch_all(connection, "SELECT FROM pg_namespace WHERE nspname = %s", [SCHEMA]):
        execute(connection, sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    execute(connection, "\n".join(map(_file, names)))
    for function in _functions(connection):
        if function.name in names:
            comment = sql.SQL("COMMENT ON FUNCTION {}() IS {}").format(
                sql.Identifier(SCHEMA, function.name), sql.Literal(function.comment)
            )
            execute(connection, comment)


def _run(
    connection: Connection, commands: list[tuple[str, _Trigger]], poll: Poll, lock_timeout: float
) -> None:
    block = sql.SQL(_file("install")).format(
        commands=sql.Literal([command for command, _ in commands]),
        labels=sql.Literal([trigger.relation for _, trigger in commands]),
    )
    body = sql.Literal(block.as_string(connection))
    try:
        fetch_all_polled(connection, sql.SQL("DO {}").format(body), poll)
    except StatementError as error:
        raise _named(error, lock_timeout) from error


def _named(error: StatementError, lock_timeout: float) -> StatementError | LockedError:
    """The same failure, with the table at which it happened."""
    cause = error.__cause__
    if not isinstance(cause, psycopg2.Error) or cause.diag.table_name is None:
        return error
    table = f"No trigger was installed: table {cause.diag.table_name}"
    if isinstance(cause, errors.LockNotAvailable):
        return LockedError(f"{table} was held by another session for over {lock_timeout:g} s.")
    return StatementError(f"{table}: {error}", hint=cause.diag.message_hint or "")
