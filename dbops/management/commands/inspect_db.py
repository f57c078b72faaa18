"""``inspect_db``: what a database holds."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf
from dbops.catalogue import last_backup, told_of
from dbops.management.inspection_text import show_anatomy
from dbops.management.operation_command import DbopsCommand, environment_option
from dbops.operations.anatomy import Wish, inspect_database
from dbops.operations.context import OperationContext
from dbops.operations.inspection import InspectRequest

_EVERY = object()


class Command(DbopsCommand):
    help = (
        "Look at a database: as a whole, or at its tables, definitions, triggers, functions. "
        "Filters (--schema S, --table T) hold for every view; rows and sizes are the server's "
        "own estimates."
    )
    example = "inspect_db --env dev --tables --schema public"
    takes_environment = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--tables", action="store_true", help="rows, sizes, indexes, bloat, last vacuum"
        )
        parser.add_argument(
            "--schema", metavar="S", nargs="?", const=_EVERY,
            help="the definitions of everything; of schema S alone. Beside another view: only S",
        )  # fmt: skip
        parser.add_argument("--table", metavar="T", help="one table. Beside a view: only T in it")
        parser.add_argument("--triggers", action="store_true", help="every trigger and its state")
        parser.add_argument("--functions", action="store_true", help="functions and procedures")

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        request = InspectRequest(
            environment, conf.database_params(environment), conf.trigger_wishes()
        )
        found = inspect_database(request, _wish(options), OperationContext("", actor=self.actor()))
        backup = last_backup(environment) if found.overview else None
        if not self.console.as_json:
            show_anatomy(self.console, found, told_of(backup))
            return
        result = found.to_json()
        if found.overview:
            result["last_backup"] = backup.to_json() if backup else None
        self.console.result({"result": result})


def _wish(options: dict[str, Any]) -> Wish:
    every = options["schema"] is _EVERY
    return Wish(
        tables=options["tables"],
        structure=every,
        triggers=options["triggers"],
        functions=options["functions"],
        schema=None if every else options["schema"],
        table=options["table"],
    )
