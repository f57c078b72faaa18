"""What is wished for beyond what the columns tell: whose ids, which tables' history."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dbops.exceptions import ConfigurationError
from dbops.postgres.triggers.sets import TriggerSet

SECRETS = (
    "password", "passwd", "passphrase", "secret", "token", "hash", "salt", "api_key",
    "private_key", "session_key", "credential",
)  # fmt: skip
"""A column whose name holds one of these, in any case, is kept out of every history."""
_RULE = re.compile(r"\s*(?P<pattern>[^\s:,]+)\s*(?::\s*(?P<columns>[^:,]*\S))?\s*$")
_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


@dataclass(frozen=True)
class HistoryRule:
    """Tables whose rows' history is kept."""

    pattern: str
    """"schema.table", or a table of any schema, with ``*`` and ``?``."""
    exclude: tuple[str, ...] = ()
    """Columns that are kept out of it, beside :data:`SECRETS`."""

    @classmethod
    def parse(cls, text: object) -> HistoryRule:
        """``"clinic.patients"``, or with columns to be kept out: ``"clinic.patients: notes fee"``.

        Raises:
            ConfigurationError: it means nothing.
        """
        found = _RULE.match(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigurationError(
                f"DBOPS_ROW_HISTORY: {text!r} names no tables.",
                hint="Write a table or a pattern, and after a colon the columns to be kept out: "
                "'clinic.patients: notes allergies', 'billing.*'",
            )
        return cls(found["pattern"], tuple((found["columns"] or "").split()))

    @property
    def regex(self) -> str:
        """The pattern as PostgreSQL's advanced regular expressions have it, and Python's."""
        return f"^{''.join(map(_as_regex, self.pattern))}$"

    def fits(self, schema: str, table: str) -> bool:
        """Whether it means that table."""
        return (
            re.match(self.regex, f"{schema}.{table}" if "." in self.pattern else table) is not None
        )


@dataclass(frozen=True)
class Wishes:
    """What triggers there should be, beyond what the columns of a table ask for."""

    users: str | None = None
    """The table of users, "schema.table": integer columns that refer to it take the actor's id."""
    history: Sequence[HistoryRule] = ()
    """The first rule that fits a table is its own."""
    event_trigger: bool = False
    """Whether tables made later get their triggers at once."""
    sets: tuple[TriggerSet, ...] = ()
    """What apps bring for their own tables."""

    def sets_in(self, schemas: Sequence[str] | None) -> tuple[TriggerSet, ...]:
        """Those with a table in one of the schemas; all of them for None."""
        return tuple(it for it in self.sets if schemas is None or it.schemas & set(schemas))

    @property
    def rules(self) -> str:
        """The rules of history as ``survey.sql`` takes them."""
        return json.dumps(
            [
                {
                    "pattern": rule.regex,
                    "qualified": "." in rule.pattern,
                    "hidden": _hidden(rule.exclude),
                }
                for rule in self.history
            ]
        )


NOTHING = Wishes()


def _as_regex(character: str) -> str:
    """Of a pattern, as PostgreSQL's advanced regular expressions write it."""
    if character in "*?":
        return ".*" if character == "*" else "."
    return character if character in _PLAIN or ord(character) > 127 else f"\\{character}"


def _hidden(exclude: Sequence[str]) -> str:
    names = [f"^{''.join(_as_regex(it) for it in name)}$" for name in exclude]
    return "|".join([*SECRETS, *names])
