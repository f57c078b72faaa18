"""``init_db``: bring an environment's database into being."""

from argparse import ArgumentParser
from typing import Any

from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.wording import counted


class Command(DbopsCommand):
    help = "Create the database if absent, migrate it, install triggers, stamp it."
    example = "init_db --env test"
    takes_environment = True
    asks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--adopt", action="store_true", help="take in a database that already holds tables"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        outcome = self.run_operation(
            Operation.Kind.INIT, options, target=environment, wishes={"adopt": options["adopt"]}
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        installed = counted(result["triggers"], "trigger")
        verb = "created" if result["created"] else "adopted" if result["adopted"] else "is ready"
        self.console.say(
            f"{environment}: {result['database']} {verb}, {installed} installed.",
            style="green",
        )
