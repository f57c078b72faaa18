"""What has to be done so that every trigger that should be is there, before any of it is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dbops.exceptions import PreflightError, PrivilegeError
from dbops.postgres import catalog
from dbops.postgres.connection import Connection, fetch_all
from dbops.postgres.triggers import event, history, legacy
from dbops.postgres.triggers.legacy import Replaced
from dbops.postgres.triggers.sets import TriggerSet, set_status
from dbops.postgres.triggers.survey import FUNCTIONS, Trigger, file, stale, survey
from dbops.postgres.triggers.wishes import Wishes

# Enabling comes first: dropping a trigger takes its heirs on partitions along.
_ORDER = ("disabled", "obsolete", "missing", "changed")
Command = tuple[str, str]
"""A statement, and the table it is about."""


@dataclass(frozen=True)
class Installation:
    """What is in place after ``install``, or would be after what ``plan`` lists."""

    functions: int
    triggers: int
    tables: int
    skipped: tuple[str, ...]
    """What cannot be served, and why: "schema.table: column is type"."""
    statements: tuple[str, ...]
    """Files and commands that were, or would be, executed; none where all is in place already."""
    replaced: Replaced | None = None
    """Triggers of the earlier system that gave way; None where that was not asked for."""


@dataclass(frozen=True)
class Plan:
    """What to do, and what is then in place."""

    stale: list[str]
    """Functions to be made."""
    history: bool
    """Whether the history's table is to be made."""
    commands: list[Command]
    event: str
    """What makes the event trigger; "" where nothing has to."""
    sets: tuple[TriggerSet, ...]
    outcome: Installation


def make_plan(
    connection: Connection,
    wishes: Wishes,
    schemas: Sequence[str] | None,
    *,
    base_only: bool,
    replace_legacy: bool,
) -> Plan:
    """Raises PreflightError: a schema does not exist. PrivilegeError: names all that may not be
    changed."""
    require_schemas(connection, schemas)
    found = [] if base_only else survey(connection, schemas, wishes)
    replaced = legacy.find(connection, found) if replace_legacy else None
    commands = [*(replaced.removals if replaced else ()), *_commands(found)]
    behind = stale(connection)
    attaching = "absent" if base_only else event.state(connection, wishes)
    # A table made later may be the first whose history is kept.
    recorded = any(it.function == "record_history" for it in found)
    recorded = recorded or (bool(wishes.history) and attaching != "absent")
    table = recorded and history.state(connection) != "installed"
    touched = {(it.schema, it.table) for it in found if it.command}
    touched |= {(it.schema, it.table) for it in replaced.triggers} if replaced else set()
    require_privileges(connection, [*behind, *(["row_history"] if table else [])], touched)
    attach = ""
    if attaching in ("missing", "outdated", "disabled"):
        attach = event.statement(connection, wishes)
    left_out = wishes.event_trigger and attaching == "absent" and not base_only
    sets = () if base_only else wishes.sets_in(schemas)
    brought = set_status(connection, sets)
    wanted = [trigger for trigger in found if trigger.function]
    relations = {it.relation for it in wanted} | {it.split(": ")[0] for it in brought.labels}
    skipped = [trigger.label for trigger in found if trigger.state == "skipped"]
    unmatched = [] if base_only or schemas else _unmatched(connection, wishes)
    files = [*map(file, behind), *([file("row_history")] if table else [])]
    attachment = [attach] if attach else []
    outcome = Installation(
        functions=len(FUNCTIONS),
        triggers=len(wanted) + len(brought.labels),
        tables=len(relations),
        skipped=(*skipped, *unmatched, *([event.REFUSAL] if left_out else [])),
        statements=(*files, *(it for it, _ in commands), *attachment, *brought.statements),
        replaced=replaced,
    )
    return Plan(behind, table, commands, attach, sets, outcome)


def _commands(found: list[Trigger]) -> list[Command]:
    return [
        (trigger.command, trigger.relation)
        for state in _ORDER
        for trigger in found
        if trigger.state == state and trigger.command
    ]


def _unmatched(connection: Connection, wishes: Wishes) -> list[str]:
    """Rules that fit no table, which somebody may have meant otherwise."""
    if not wishes.history:
        return []
    names = [root.split(".", 1) for _, root in catalog.table_names(connection)]
    return [
        f"row history: {rule.pattern} fits no table"
        for rule in wishes.history
        if not any(rule.fits(schema, table) for schema, table in names)
    ]


def require_schemas(connection: Connection, schemas: Sequence[str] | None) -> None:
    """Raise PreflightError where there is no such schema, or none for tables of users."""
    rows = fetch_all(
        connection,
        """SELECT s FROM unnest(%s::text[]) s WHERE s IN ('information_schema', 'skinspire')
              OR s ~ '^pg_' OR s NOT IN (SELECT nspname FROM pg_namespace)""",
        [list(schemas or ())],
    )
    if rows:
        names = ", ".join(name for (name,) in rows)
        raise PreflightError(f"There is no schema for tables of yours named {names}.")


def require_privileges(
    connection: Connection,
    behind: list[str],
    tables: Iterable[tuple[str, str]],
    what: str = "No trigger was installed",
) -> None:
    """Raise PrivilegeError, which names all that the connecting role may not change."""
    places = list(tables)
    schemas, names = [schema for schema, _ in places], [name for _, name in places]
    rows = fetch_all(connection, file("refusals"), [schemas, names, list(FUNCTIONS), behind])
    if rows:
        raise PrivilegeError(
            f"{what}, because the connecting role may not change "
            f"{', '.join(label for (label,) in rows)}.",
            hint="Connect as their owner, or as a member of the role that owns them.",
        )
