"""``apply_triggers``: timestamps and acting user on every table that has the columns."""

from argparse import ArgumentParser
from typing import Any

from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation


class Command(DbopsCommand):
    help = "Install the triggers on every table that has their columns: all of them, or none."
    example = "apply_triggers --env dev"
    takes_environment = True
    asks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--base-only", action="store_true", help="the functions alone")
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--schema", metavar="S", action="append", help="only tables of schema S")
        scope.add_argument("--all-schemas", action="store_true", help="every schema (the default)")
        parser.add_argument("--dry-run", action="store_true", help="say what would happen")

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        wishes = {
            "schemas": options["schema"],
            "base_only": options["base_only"],
            "dry_run": options["dry_run"],
        }
        outcome = self.run_operation(
            Operation.Kind.TRIGGERS, options, target=environment, wishes=wishes
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        for statement in result["statements"] if options["dry_run"] else ():
            self.console.say(statement)
        verb = "Would install" if options["dry_run"] else "Installed"
        self.console.say(
            f"{verb} {result['triggers']} triggers on {result['tables']} tables of {environment}.",
            style="green",
        )
        for skipped in result["skipped"]:
            self.console.note(f"skipped: {skipped}", style="yellow")
