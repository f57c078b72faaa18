"""``diff_db``: how two environments' databases differ."""

from argparse import ArgumentParser
from collections.abc import Iterator
from difflib import unified_diff
from itertools import groupby
from typing import Any

from dbops import conf
from dbops.exceptions import DriftError, UsageError
from dbops.management.operation_command import DbopsCommand
from dbops.operations.context import OperationContext
from dbops.operations.difference import Change, DiffRequest, DiffResult, diff_databases
from dbops.operations.inspection import InspectRequest
from dbops.postgres.names import visible
from dbops.postgres.structure import Identity

_STYLES = {"-": "red", "+": "green", "~": "yellow"}


class Command(DbopsCommand):
    help = "Compare schema, triggers and migrations of A and B; exit 1 on any drift."
    example = "diff_db test dev"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("a", metavar="A", help="dev, test or prod")
        parser.add_argument("b", metavar="B", help="another one")

    def handle(self, *args: Any, **options: Any) -> None:
        a, b = (conf.resolve_environment(options[end]) for end in ("a", "b"))
        if a == b:
            raise UsageError(f"{a} cannot differ from itself; name two environments.")
        ends = (InspectRequest(name, conf.database_params(name)) for name in (a, b))
        result = diff_databases(DiffRequest(*ends), OperationContext("", actor=self.actor()))
        if not self.console.as_json:
            self._show(result)
        if result.drift:
            raise DriftError(
                f"{b} differs from {a}: {len(result.only_in_a)} only in {a}, "
                f"{len(result.only_in_b)} only in {b}, {len(result.changed)} changed.",
                hint=f"See what a copy would do: python manage.py copy_db {a} {b} --schema-only "
                "--dry-run",
                result=_as_json(result),
            )
        if self.console.as_json:
            self.console.result({"result": _as_json(result)})
        else:
            self.console.say(f"{a} and {b} are defined alike.", style="green")

    def _show(self, result: DiffResult) -> None:
        """By kind and name: - only in A, + only in B, ~ changed."""
        for kind, lines in groupby(sorted(_lines(result)), key=lambda line: line[0].kind):
            self.console.say(kind, style="bold")
            for identity, sign, change in lines:
                self.console.say(f"  {sign} {visible(identity.name)}", style=_STYLES[sign])
                for line in _differing(change) if change else ():
                    self.console.say(f"      {visible(line)}", style=_STYLES[line[0]])


def _lines(result: DiffResult) -> Iterator[tuple[Identity, str, Change | None]]:
    yield from ((identity, "-", None) for identity in result.only_in_a)
    yield from ((identity, "+", None) for identity in result.only_in_b)
    yield from ((change.identity, "~", change) for change in result.changed)


def _differing(change: Change) -> list[str]:
    """The lines of the two definitions that are not in both, each behind its - or +."""
    lines = unified_diff(change.a.splitlines(), change.b.splitlines(), n=0, lineterm="")
    return [line for line in list(lines)[2:] if not line.startswith("@@")]


def _as_json(result: DiffResult) -> dict[str, Any]:
    return {
        "only_in_a": [identity._asdict() for identity in result.only_in_a],
        "only_in_b": [identity._asdict() for identity in result.only_in_b],
        "changed": [
            {**change.identity._asdict(), "a": change.a, "b": change.b} for change in result.changed
        ],
    }
