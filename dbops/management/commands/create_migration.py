"""``create_migration``: migration files for what changed in the models."""

import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from dbops.management.operation_command import DbopsCommand
from dbops.migrating.files import CreateRequest, create_migration


class Command(DbopsCommand):
    help = "Write migrations for what changed in the models. No database is asked or touched."
    example = 'create_migration -m "what is new in the models"'

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("-m", "--message", required=True, help="what the migrations are for")
        parser.add_argument("--app", default="", help="only this application's changes")
        parser.add_argument("--empty", action="store_true", help="one to be filled by hand")

    def handle(self, *args: Any, **options: Any) -> None:
        asking = options["interactive"] and sys.stdin.isatty()
        request = CreateRequest(
            options["message"], options["app"], options["empty"], self.stderr if asking else None
        )
        result = asdict(create_migration(request))
        for app in result["left_out"]:
            self.console.note(f"{app} is an installed package: write for it by --app {app}")
        if self.console.as_json:
            self.console.result({"result": result})
            return
        if not result["migrations"]:
            self.console.say("Nothing changed in the models: no migration was written.")
        for label, file in zip(result["migrations"], result["files"], strict=True):
            self.console.say(f"{label}: {file}", style="green")
