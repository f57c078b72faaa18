"""What the commands that migrate share: their options, and what they tell afterwards."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from typing import Any

from dbops.management.console import Console
from dbops.management.operation_command import DbopsCommand, operation_json
from dbops.operations.migration_run import LOCK_TIMEOUT
from dbops.runner import Outcome

_MOST_STEPS = 1000
_LONGEST_WAIT = 3600.0


class MigratingCommand(DbopsCommand):
    """A command that migrates an environment's database, forwards or backwards."""

    takes_environment = True
    asks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        _add_migrating_arguments(parser)

    def migrate(
        self, kind: str, environment: str, options: Mapping[str, Any], **wishes: Any
    ) -> Outcome:
        """Run it with what both commands may be told, and with wishes of its own."""
        both = {
            "backup": not options["no_backup"],
            "lock_timeout": options["lock_timeout"],
            "way": options["way"] or "auto",
        }
        return self.run_operation(kind, options, target=environment, wishes=both | wishes)


def _add_migrating_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--no-backup", action="store_true", help="go ahead without a backup")
    parser.add_argument(
        "--lock-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=LOCK_TIMEOUT,
        help=f"how long to wait for a table that another session holds (default: {LOCK_TIMEOUT:g})",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--aside",
        action="store_const",
        const="aside",
        dest="way",
        help="on a copy, which then takes the database's place; nobody can write meanwhile "
        "(by itself where a migration cannot be rolled back)",
    )
    way.add_argument(
        "--in-place",
        action="store_const",
        const="in_place",
        dest="way",
        help="commit each migration by itself; what is done when one fails, stays",
    )


def number_of_steps(text: str) -> int:
    """A number of migrations, from the command line."""
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_STEPS:
        raise ArgumentTypeError(f"a number from 1 to {_MOST_STEPS}, not {text[:20]!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.001 <= number <= _LONGEST_WAIT:
        raise ArgumentTypeError(f"seconds up to {_LONGEST_WAIT:g}, not {text[:20]!r}")
    return number


def tell_migrated(console: Console, outcome: Outcome, verb: str) -> None:
    """The answer of a command that migrated, or rehearsed it."""
    result = outcome.result
    if console.as_json:
        console.result(operation_json(outcome))
        return
    if result["rehearsal"]:
        _tell_rehearsal(console, result["rehearsal"])
    if result["way"] is None:
        if not result["rehearsal"]:
            console.say("Nothing to do: the database and this code agree.", style="green")
        return
    console.say(f"{verb}: {', '.join(result['migrations'])}.", style="green")
    if result["saved_as"]:
        console.note(f"What was there before is kept as backup {result['saved_as']}.")
    if result["previous"]:
        console.note(
            f"It ran on a copy, which took the database's place in {result['outage_ms']:.0f} ms. "
            f"Put the other back: python manage.py undo_operation {outcome.operation.id}"
        )


def _tell_rehearsal(console: Console, rehearsal: Mapping[str, Any]) -> None:
    console.say(f"Rehearsed on a copy in {rehearsal['seconds']:.1f} s; the copy is gone.")
    rows = [
        (
            step["migration"],
            f"{step['seconds']:.3f} s",
            _pairs(step["locks"]) + ("" if step["locks_exact"] else " (as seen)"),
            _pairs(step["rewritten"]) or "-",
            _written(step["rows"]),
            _back(step),
        )
        for step in rehearsal["migrations"]
    ]
    console.table(("migration", "took", "locks", "rows rewritten", "rows written", "undone"), rows)


def _pairs(found: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in (found or {}).items())


def _written(rows: Mapping[str, Mapping[str, int]] | None) -> str:
    return ", ".join(f"{name} {sum(it.values())}" for name, it in (rows or {}).items()) or "-"


def _back(step: Mapping[str, Any]) -> str:
    if step["rolls_back"] is None:
        return "not tried"
    return "yes" if step["rolls_back"] else f"no: {step['rollback_problem']}"
