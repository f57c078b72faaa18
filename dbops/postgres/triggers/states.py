"""Whether the triggers that should be are there, and which others are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dbops.postgres.connection import Connection
from dbops.postgres.triggers import event, history
from dbops.postgres.triggers.sets import set_status
from dbops.postgres.triggers.survey import states
from dbops.postgres.triggers.wishes import NOTHING, Wishes


@dataclass(frozen=True)
class TriggerStatus:
    """Triggers by state, each as "schema.table: trigger"."""

    installed: tuple[str, ...]
    outdated: tuple[str, ...]
    disabled: tuple[str, ...]
    missing: tuple[str, ...]
    legacy: tuple[str, ...]
    """Those of the earlier system, on any table; left alone."""
    foreign: tuple[str, ...]
    """Other people's, on tables that have ours; left alone."""

    @property
    def drift(self) -> bool:
        """True where ``install`` would change anything; what belongs to others is no drift."""
        return bool(self.outdated or self.disabled or self.missing)

    @property
    def counts(self) -> dict[str, int]:
        """How many in each state; those of the earlier system left out."""
        names = ("installed", "outdated", "disabled", "missing", "foreign")
        return {name: len(getattr(self, name)) for name in names}


def status(connection: Connection, wishes: Wishes = NOTHING) -> TriggerStatus:
    """The state of every trigger that is ours, should be, or shares a table with ours; and of those
    of the earlier system."""
    found: dict[str, list[str]] = defaultdict(list)
    surveyed = states(connection, wishes)
    for trigger, state in surveyed:
        found[state].append(trigger.label)
    attaching = event.state(connection, wishes)
    if attaching != "absent":
        found[attaching].append(event.LABEL)
    recorded = any(trigger.function == "record_history" for trigger, _ in surveyed)
    if recorded or (wishes.history and attaching != "absent"):
        found[history.state(connection)].append(history.LABEL)
    brought = set_status(connection, wishes.sets)
    for state, labels in brought.states.items():
        found[state] += labels
    found["foreign"] = [label for label in found["foreign"] if label not in brought.labels]
    names = ("installed", "outdated", "disabled", "missing", "legacy", "foreign")
    return TriggerStatus(*(tuple(found[name]) for name in names))
