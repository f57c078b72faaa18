"""``apply_triggers``: timestamps and acting user on every table that has the columns."""

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dbops import conf
from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.triggers import ApplyTriggersRequest, apply_triggers
from skinspire.guarantees import trigger_sets


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
        if options["dry_run"]:
            self._rehearse(environment, options)
            return
        wishes = {"schemas": options["schema"], "base_only": options["base_only"]}
        outcome = self.run_operation(
            Operation.Kind.TRIGGERS, options, target=environment, wishes=wishes
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        self._show("Installed", environment, outcome.result)

    def _rehearse(self, environment: str, options: dict[str, Any]) -> None:
        request = ApplyTriggersRequest(
            database=conf.database_params(environment),
            environment=environment,
            schemas=tuple(options["schema"]) if options["schema"] else None,
            base_only=options["base_only"],
            dry_run=True,
            sets=trigger_sets(),
        )
        result = asdict(apply_triggers(request, OperationContext("", actor=self.actor())))
        if self.console.as_json:
            self.console.result({"result": result})
            return
        for statement in result["statements"]:
            self.console.say(statement)
        self._show("Would install", environment, result)

    def _show(self, verb: str, environment: str, result: Mapping[str, Any]) -> None:
        self.console.say(
            f"{verb} {result['triggers']} triggers on {result['tables']} tables of {environment}.",
            style="green",
        )
        for skipped in result["skipped"]:
            self.console.note(f"skipped: {skipped}", style="yellow")
