"""What the catalogue says: every trigger that should be or is, and our functions, with states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dbops.postgres.connection import Connection, fetch_all
from dbops.postgres.triggers.wishes import NOTHING, Wishes

FUNCTIONS = (
    "set_timestamps", "set_created_at", "set_updated_at",
    "set_actors", "set_created_by", "set_updated_by",
    "set_actor_ids", "set_created_by_id", "set_updated_by_id",
    "record_history", "refuse_change",
)  # fmt: skip
_FILES = Path(__file__).parents[2] / "sql" / "triggers"


@dataclass(frozen=True)
class Function:
    """One row of ``functions.sql``."""

    name: str
    fingerprint: str | None
    """None where it does not exist."""
    comment: str | None
    current: bool


class Trigger(NamedTuple):
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
    command: str | None
    """What brings it to its state; None where nothing has to be done."""

    @property
    def relation(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def label(self) -> str:
        return f"{self.relation}: {self.name}"


def present(connection: Connection) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Of each trigger of ours that is there, by schema, table and name: its state as in
    ``TriggerStatus``, and what :func:`digest` is made of; those that a partition inherits left out.
    """
    return {
        (trigger.schema, trigger.table, trigger.name): (state, trigger.fact)
        for trigger, state in states(connection)
        if trigger.fact is not None and state != "inherited"
    }


def digest(connection: Connection) -> str:
    """SHA-256 over our triggers and functions as they are, enabled or not; "" where there is none.

    Equal in a database and in its faithful copy, also on another major version.
    """
    triggers = [[it.label, it.fact] for it in survey(connection) if it.fact is not None]
    # Those that are not there are left out: an earlier version did not know them.
    made = [[it.name, it.fingerprint] for it in functions(connection) if it.fingerprint]
    return _hash(json.dumps([triggers, made])) if triggers else ""


@cache
def file(name: str) -> str:
    """A file of ``sql/triggers``."""
    return (_FILES / f"{name}.sql").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def sources() -> str:
    """{function: digest of its file}, as JSON."""
    return json.dumps({name: _hash(file(name)) for name in FUNCTIONS})


def functions(connection: Connection) -> list[Function]:
    """Our functions, there or not."""
    return [Function(*row) for row in fetch_all(connection, file("functions"), [sources()])]


def stale(connection: Connection) -> list[str]:
    """Functions that are missing or not as this version makes them."""
    return [function.name for function in functions(connection) if not function.current]


def survey(
    connection: Connection, schemas: Sequence[str] | None = None, wishes: Wishes = NOTHING
) -> list[Trigger]:
    """The rows of ``survey.sql``."""
    return [Trigger(*row) for row in fetch_all(connection, file("survey"), given(schemas, wishes))]


def given(schemas: Sequence[str] | None, wishes: Wishes, relations: Any = None) -> list[Any]:
    """What ``survey.sql`` takes."""
    scope = None if schemas is None else list(schemas)
    return [scope, relations, sources(), wishes.users, wishes.rules]


def states(connection: Connection, wishes: Wishes = NOTHING) -> list[tuple[Trigger, str]]:
    """Every trigger of the survey with its state, that of its function taken into account."""
    behind = set(stale(connection))
    found = []
    for trigger in survey(connection, wishes=wishes):
        old = trigger.function in behind and trigger.state != "missing"
        outdated = old or trigger.state in ("changed", "obsolete")
        found.append((trigger, "outdated" if outdated else trigger.state))
    return found
