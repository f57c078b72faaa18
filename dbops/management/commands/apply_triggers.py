"""``apply_triggers``: timestamps, acting user and row history, wherever they are asked for."""

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from dbops import conf
from dbops.exceptions import UsageError
from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.triggers import (
    ApplyTriggersRequest,
    RemoveTriggersRequest,
    apply_triggers,
    remove_triggers,
)
from dbops.wording import counted


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
        parser.add_argument(
            "--replace-legacy", action="store_true",
            help="triggers of the earlier system give way to ours; undo_operation brings them back",
        )  # fmt: skip
        parser.add_argument(
            "--event-trigger", action="store_true",
            help="tables made later get theirs at once, too (needs a superuser)",
        )  # fmt: skip
        parser.add_argument("--remove", action="store_true", help="take all of ours off")

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        chosen = ("base_only", "replace_legacy", "event_trigger")
        wishes = {name: True for name in (*chosen, "remove") if options[name]}
        if options["remove"] and len(wishes) > 1:
            raise UsageError("--remove takes everything of ours off: it stands alone.")
        if options["dry_run"]:
            self._rehearse(environment, options)
            return
        wishes |= {"schemas": options["schema"]}
        outcome = self.run_operation(
            Operation.Kind.TRIGGERS, options, target=environment, wishes=wishes
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        verb = "Removed" if options["remove"] else "Installed"
        self._show(verb, environment, outcome.result, outcome.operation.id)

    def _rehearse(self, environment: str, options: dict[str, Any]) -> None:
        context = OperationContext("", actor=self.actor())
        database = conf.database_params(environment)
        schemas = tuple(options["schema"]) if options["schema"] else None
        if options["remove"]:
            removal = RemoveTriggersRequest(database, environment, schemas, dry_run=True)
            result = asdict(remove_triggers(removal, context))
        else:
            wishes = conf.trigger_wishes()
            if options["event_trigger"]:
                wishes = replace(wishes, event_trigger=True)
            request = ApplyTriggersRequest(
                database, environment, schemas, base_only=options["base_only"], wishes=wishes,
                replace_legacy=options["replace_legacy"], dry_run=True,
            )  # fmt: skip
            result = asdict(apply_triggers(request, context))
        if self.console.as_json:
            self.console.result({"result": result})
            return
        for statement in result["statements"]:
            self.console.say(statement)
        self._show("Would remove" if options["remove"] else "Would install", environment, result)

    def _show(
        self, verb: str, environment: str, result: Mapping[str, Any], operation: str = ""
    ) -> None:
        self.console.say(
            f"{verb} {counted(result['triggers'], 'trigger')} on "
            f"{counted(result['tables'], 'table')} of {environment}.",
            style="green",
        )
        for word in ("skipped", "kept"):
            for line in result.get(word, ()):
                self.console.note(f"{word}: {line}", style="yellow")
        replaced = result.get("replaced") or {"triggers": (), "kept": ()}
        for line in replaced["kept"]:
            self.console.note(f"left: {line}", style="yellow")
        if replaced["triggers"]:
            back = f" Put them back: python manage.py undo_operation {operation}"
            earlier = "of the earlier system"
            old = counted(
                len(replaced["triggers"]), f"trigger {earlier} gives", f"triggers {earlier} give"
            )
            self.console.say(f"{old} way to them.{back if operation else ''}")
