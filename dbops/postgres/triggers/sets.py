"""Sets of triggers that an app brings for its own tables, beside those that attach by column.

A set is a directory of SQL files, one per function, and a list of triggers. Digests in the
comments tell installed, outdated, disabled and missing, as in :mod:`dbops.postgres.triggers`.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from psycopg2 import sql

from dbops.exceptions import StatementError
from dbops.postgres.connection import Connection, execute, fetch_all
from dbops.postgres.stamp import SCHEMA

_STATUS = Path(__file__).parents[2] / "sql" / "trigger_sets" / "status.sql"
# As pg_trigger.tgtype has them.
_BITS = {"ROW": 1, "BEFORE": 2, "INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32}


@dataclass(frozen=True)
class SetTrigger:
    """One trigger of a set."""

    name: str
    table: str
    """"schema.table"."""
    when: str
    """As SQL has it: "BEFORE INSERT OR UPDATE"."""
    function: str
    """Without its schema, which is ours."""
    arguments: tuple[str, ...] = ()
    each: str = "ROW"

    @property
    def label(self) -> str:
        return f"{self.table}: {self.name}"

    @property
    def type(self) -> int:
        """``pg_trigger.tgtype``."""
        words = [*self.when.split(), self.each]
        return sum(bit for word, bit in _BITS.items() if word in words)

    def definition(self) -> sql.Composed:
        """The statement that makes it."""
        return sql.SQL(
            f"CREATE OR REPLACE TRIGGER {{}} {self.when} ON {{}} FOR EACH {self.each} "
            "EXECUTE FUNCTION {}({})"
        ).format(
            sql.Identifier(self.name),
            sql.Identifier(*self.table.split(".")),
            sql.Identifier(SCHEMA, self.function),
            sql.SQL(", ").join(map(sql.Literal, self.arguments)),
        )


@dataclass(frozen=True)
class TriggerSet:
    """What one app brings."""

    name: str
    directory: Path
    """Holds ``<function>.sql``."""
    triggers: tuple[SetTrigger, ...]

    @property
    def schemas(self) -> frozenset[str]:
        """Those of its tables."""
        return frozenset(trigger.table.split(".")[0] for trigger in self.triggers)

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """The SQL of each function."""
        names = {trigger.function for trigger in self.triggers}
        return {
            name: (self.directory / f"{name}.sql").read_text(encoding="utf-8")
            for name in sorted(names)
        }


@dataclass
class SetStatus:
    """How sets stand; one whose tables are not there counts as none."""

    states: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Triggers by state, each as "schema.table: trigger"."""
    steps: list[tuple[str, str]] = field(default_factory=list)
    """(what it is about, SQL) of what :func:`install_sets` would execute; none where all is in
    place."""

    @property
    def statements(self) -> tuple[str, ...]:
        return tuple(statement for _, statement in self.steps)

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(label for labels in self.states.values() for label in labels)


def set_status(connection: Connection, sets: Sequence[TriggerSet]) -> SetStatus:
    """How the triggers of these sets stand. Raises StatementError."""
    status = SetStatus()
    for each in sets:
        _look(connection, each, status)
    return status


def install_sets(connection: Connection, sets: Sequence[TriggerSet]) -> SetStatus:
    """Bring functions and triggers to this version; what is in place is not touched.

    In the caller's transaction, which rolls all of it back where any of it fails.

    Returns:
        How they stood before.

    Raises:
        StatementError: the server refused it; the table or function is named.
    """
    status = set_status(connection, sets)
    if status.statements and not fetch_all(
        connection, "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", [SCHEMA]
    ):
        execute(connection, sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
    for subject, statement in status.steps:
        try:
            execute(connection, statement)
        except StatementError as error:
            raise StatementError(f"No trigger was installed: {subject}: {error}") from error
    return status


def _look(connection: Connection, wanted: TriggerSet, status: SetStatus) -> None:
    comments = {
        name: f"skinspire {wanted.name}:{_hash(source)}" for name, source in wanted.sources.items()
    }
    described = [_described(connection, wanted, trigger) for trigger in wanted.triggers]
    rows = fetch_all(
        connection,
        _STATUS.read_text(encoding="utf-8"),
        [json.dumps(comments), json.dumps(described)],
    )
    triggers = {trigger.label: trigger for trigger in wanted.triggers}
    for schema, table, name, state, comment in rows:
        if schema is None:
            if state != "installed":
                made = _make_function(wanted, name, comments[name])
                status.steps += [(f"function {name}", it.as_string(connection)) for it in made]
            continue
        trigger = triggers[f"{schema}.{table}: {name}"]
        status.states[state].append(trigger.label)
        if state != "installed":
            made = _make_trigger(trigger, comment)
            status.steps += [(f"table {trigger.table}", it.as_string(connection)) for it in made]


def _described(
    connection: Connection, wanted: TriggerSet, trigger: SetTrigger
) -> Mapping[str, str | int]:
    schema, table = trigger.table.split(".")
    return {
        "schema": schema,
        "table": table,
        "name": trigger.name,
        "function": trigger.function,
        "type": trigger.type,
        # pg_trigger ends each argument with a NUL, which encode() shows as a backslash and 000.
        "arguments": "".join(f"{argument}\\000" for argument in trigger.arguments),
        "comment": f"skinspire {wanted.name}:"
        + _hash(wanted.sources[trigger.function] + trigger.definition().as_string(connection)),
    }


def _make_function(wanted: TriggerSet, name: str, comment: str) -> list[sql.Composable]:
    # The fingerprint is that of what the server now holds: only it knows it.
    return [
        sql.SQL(wanted.sources[name]),
        sql.SQL(
            """DO $do$ DECLARE made pg_catalog.text; BEGIN
            SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
                       pg_catalog.jsonb_build_array(p.prosrc, p.prosecdef, p.proconfig, l.lanname)
                       ::pg_catalog.text, 'UTF8')), 'hex') INTO made
              FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
             WHERE p.oid = {signature}::pg_catalog.regprocedure;
            EXECUTE pg_catalog.format('COMMENT ON FUNCTION {function}() IS %L',
                                      pg_catalog.concat_ws(' ', {comment}, made));
            END $do$"""
        ).format(
            signature=sql.Literal(f"{SCHEMA}.{name}()"),
            function=sql.Identifier(SCHEMA, name),
            comment=sql.Literal(comment),
        ),
    ]


def _make_trigger(trigger: SetTrigger, comment: str) -> list[sql.Composable]:
    table, name = sql.Identifier(*trigger.table.split(".")), sql.Identifier(trigger.name)
    return [
        trigger.definition(),
        sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(name, table, sql.Literal(comment)),
        sql.SQL("ALTER TABLE {} ENABLE TRIGGER {}").format(table, name),
    ]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
