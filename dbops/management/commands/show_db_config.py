"""``show_db_config``: every setting, where it comes from, and no secret."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf, environments
from dbops.management.environment_tables import show_environments, show_problems
from dbops.management.operation_command import DbopsCommand


class Command(DbopsCommand):
    help = "Show all settings with secrets masked, and where each value comes from."
    example = "show_db_config --env test"
    requires_system_checks: tuple[str, ...] = ()  # it tells what they find itself

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--env", metavar="ENV", help="leave the databases of the others out (default: all)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = options["env"]
        found = environments.report(conf.resolve_environment(wanted) if wanted is not None else "")
        if self.console.as_json:
            settings = [vars(it) for it in found.settings]
            result = environments.as_json(found) | {"settings": settings}
            self.console.result({"result": result})
            return
        show_environments(self.console, found)
        self.console.say("")
        rows = [(it.name, it.origin, it.value) for it in found.settings]
        self.console.table(("setting", "from", "value"), rows)
        show_problems(self.console, found)
