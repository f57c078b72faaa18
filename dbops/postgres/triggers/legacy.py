"""Triggers of the earlier system: which of them ours can replace, and how they come back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from dbops.exceptions import PreflightError
from dbops.postgres.catalog import quoted_name
from dbops.postgres.connection import Connection, fetch_all
from dbops.postgres.triggers.survey import Trigger, file

# What each did, by our triggers and the columns it wrote.
_SUCCESSORS = {
    "update_timestamp": ({"skinspire_timestamps"}, ("created_at", "updated_at")),
    "track_user_changes": (
        {"skinspire_actors", "skinspire_actor_ids"},
        ("created_by", "updated_by"),
    ),
}
_WITHOUT_SUCCESSOR = "nothing of ours does its work: without it plain passwords would be stored"
_ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}


@dataclass(frozen=True)
class LegacyTrigger:
    """One trigger as it was."""

    schema: str
    table: str
    name: str
    definition: str
    enabled: str
    """As ``pg_trigger.tgenabled`` has it."""
    comment: str | None
    function: str
    """"schema.name()", quoted where need be."""

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.table}: {self.name}"


@dataclass(frozen=True)
class Replaced:
    """What gave way, and all that is needed for it to come back."""

    triggers: tuple[LegacyTrigger, ...] = ()
    functions: Mapping[str, str] = field(default_factory=dict)
    """{function: its definition} of the triggers that gave way. The functions themselves stay."""
    installed: tuple[tuple[str, str, str], ...] = ()
    """(schema, table, trigger) of those of ours that were not there before."""
    kept: tuple[str, ...] = ()
    """Those that stay, and why: "schema.table: trigger (reason)"."""

    @property
    def removals(self) -> list[tuple[str, str]]:
        """(statement, table) of each that gives way."""
        return [
            (f"DROP TRIGGER {quoted_name(it.name)} ON {_place(it)}", f"{it.schema}.{it.table}")
            for it in self.triggers
        ]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Replaced:
        """The inverse of ``dataclasses.asdict``, after JSON."""
        return cls(
            triggers=tuple(LegacyTrigger(**it) for it in content["triggers"]),
            functions=dict(content["functions"]),
            installed=tuple((schema, table, name) for schema, table, name in content["installed"]),
            kept=tuple(content["kept"]),
        )


def find(connection: Connection, found: Sequence[Trigger]) -> Replaced:
    """What could give way to the triggers that are wanted among those surveyed."""
    relations = {it.relation for it in found if it.state == "legacy"}
    giving, kept, functions = [], [], {}
    for *facts, definition, mixed in fetch_all(connection, file("legacy")):
        trigger = LegacyTrigger(*facts)
        if f"{trigger.schema}.{trigger.table}" not in relations:
            continue  # of a schema that was not asked for
        reason = "its partitions have it in other states" if mixed else _reason(trigger, found)
        if reason:
            kept.append(f"{trigger.label} ({reason})")
        else:
            giving.append(trigger)
            functions[trigger.function] = definition
    tables = {(it.schema, it.table) for it in giving}
    new = [
        (it.schema, it.table, it.name)
        for it in found
        if it.state == "missing" and (it.schema, it.table) in tables
    ]
    return Replaced(tuple(giving), functions, tuple(new), tuple(kept))


def _reason(trigger: LegacyTrigger, found: Sequence[Trigger]) -> str:
    """Why it stays; "" where ours do all it did."""
    if trigger.name not in _SUCCESSORS:
        return _WITHOUT_SUCCESSOR
    ours, columns = _SUCCESSORS[trigger.name]
    there = [it for it in found if (it.schema, it.table) == (trigger.schema, trigger.table)]
    for it in there:
        if it.state == "skipped" and it.name.startswith(columns):
            return f"ours would not serve it: {it.name}"
    if not any(it.function and it.name in ours for it in there):
        return f"the table has no {columns[0]} or {columns[1]} that ours would fill"
    return ""


def put_back_commands(connection: Connection, replaced: Replaced) -> list[tuple[str, str]]:
    """(statement, table) of all it takes.

    Raises:
        PreflightError: names what has changed so that they cannot come back as they were.
    """
    _require_room(connection, replaced)
    commands = [(definition, name) for name, definition in _missing(connection, replaced)]
    ours = fetch_all(
        connection,
        """SELECT format('DROP TRIGGER %%I ON %%I.%%I', t.tgname, n.nspname, c.relname),
                  n.nspname || '.' || c.relname
             FROM unnest(%s::text[], %s::text[], %s::text[]) AS g (schema, name, trigger)
             JOIN pg_namespace n ON n.nspname = g.schema
             JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = g.name
             JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = g.trigger
             JOIN pg_proc p ON p.oid = t.tgfoid
              AND p.pronamespace = to_regnamespace('skinspire')""",
        [list(column) for column in zip(*replaced.installed, strict=True)] or [[], [], []],
    )
    commands += [(statement, table) for statement, table in ours]
    for it in replaced.triggers:
        place, name = _place(it), quoted_name(it.name)
        statements = [it.definition, f"ALTER TABLE {place} {_ENABLE[it.enabled]} TRIGGER {name}"]
        if it.comment is not None:
            comment = sql.Literal(it.comment).as_string(connection)
            statements.append(f"COMMENT ON TRIGGER {name} ON {place} IS {comment}")
        commands += [(statement, f"{it.schema}.{it.table}") for statement in statements]
    return commands


def _require_room(connection: Connection, replaced: Replaced) -> None:
    rows = fetch_all(
        connection,
        """SELECT g.schema || '.' || g.name,
                  CASE WHEN c.oid IS NULL THEN 'is gone'
                       ELSE 'has a trigger ' || g.trigger || ' again' END
             FROM unnest(%s::text[], %s::text[], %s::text[]) AS g (schema, name, trigger)
             LEFT JOIN pg_namespace n ON n.nspname = g.schema
             LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = g.name
              AND c.relkind IN ('r', 'p', 'v', 'f')
             LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = g.trigger
            WHERE c.oid IS NULL OR t.oid IS NOT NULL ORDER BY 1, g.trigger""",
        [
            [it.schema for it in replaced.triggers],
            [it.table for it in replaced.triggers],
            [it.name for it in replaced.triggers],
        ],
    )
    changed = [f"{table} {what}" for table, what in rows]
    now = _definitions(connection, replaced)
    changed += [
        f"function {name} is another one"
        for name, definition in replaced.functions.items()
        if now[name] not in (None, definition)
    ]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise PreflightError(
            f"The earlier triggers cannot come back as they were: {', '.join(changed[:5])}{more}. "
            "Nothing was put back."
        )


def _missing(connection: Connection, replaced: Replaced) -> list[tuple[str, str]]:
    now = _definitions(connection, replaced)
    return [(name, text) for name, text in replaced.functions.items() if now[name] is None]


def _definitions(connection: Connection, replaced: Replaced) -> dict[str, str | None]:
    rows = fetch_all(
        connection,
        "SELECT f, pg_get_functiondef(to_regprocedure(f)) FROM unnest(%s::text[]) f",
        [list(replaced.functions)],
    )
    return dict(rows)


def _place(trigger: LegacyTrigger) -> str:
    return f"{quoted_name(trigger.schema)}.{quoted_name(trigger.table)}"
