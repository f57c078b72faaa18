"""``test_triggers``: every trigger of ours fired on a real row, and all of it rolled back."""

from argparse import ArgumentParser
from typing import Any

from dbops.exceptions import TriggerDriftError
from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.wording import counted


class Command(DbopsCommand):
    help = "Fire every trigger on a real row, and roll it back; exit 1 if any fails."
    example = "test_triggers --env dev"
    takes_environment = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--schema", metavar="S", action="append", help="only tables of schema S"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        outcome = self.run_operation(
            Operation.Kind.TRIGGERS, options, target=environment,
            wishes={"test": True, "schemas": options["schema"]},
        )  # fmt: skip
        result = dict(outcome.result)
        if not self.console.as_json:
            for state, names in result.items():
                self.console.say(f"{environment}: {len(names)} {state}")
                for name in names if state != "passed" else ():
                    self.console.say(f"  {name}")
        if result["failed"]:
            failed = counted(len(result["failed"]), "trigger fails", "triggers fail")
            raise TriggerDriftError(
                f"{failed} to do as promised in {environment}.",
                hint=f"See whether they are as they should be: python manage.py verify_triggers "
                f"--env {environment}",
                result=result,
            )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
