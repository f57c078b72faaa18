"""``switch_env``: which environment is active, and another one from now on."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf, environments, switching
from dbops.exceptions import UsageError
from dbops.management.environment_tables import show_environments, show_problems
from dbops.management.operation_command import DbopsCommand


class Command(DbopsCommand):
    help = "Show the active environment, or switch: for the processes that start from now on."
    example = "switch_env --status"
    asks = True
    # It has to say what is wrong, and to lead out of an environment that cannot be used.
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("to", metavar="ENV", nargs="?", help="dev, test or prod")
        parser.add_argument(
            "--status", action="store_true",
            help="what decided, what it overrides, and how every environment stands",
        )  # fmt: skip
        parser.add_argument(
            "--expect", metavar="ENV", help="exit 1 unless this process runs in ENV, by its stamp"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wishes = [options["to"] is not None, options["expect"] is not None, options["status"]]
        if sum(wishes) > 1:
            raise UsageError("Choose one of ENV, --status and --expect.")
        if options["expect"] is not None:
            self._expect(conf.resolve_environment(options["expect"]))
        elif options["to"] is not None:
            self._switch(conf.resolve_environment(options["to"]), options["confirm"] or "")
        else:
            self._status()

    def _status(self) -> None:
        found = environments.report()
        if self.console.as_json:
            self.console.result({"result": environments.as_json(found)})
            return
        show_environments(self.console, found)
        show_problems(self.console, found)

    def _expect(self, name: str) -> None:
        state = switching.require_environment(name)
        if self.console.as_json:
            self.console.result({"result": switching.running_json(state)})
            return
        self.console.say(f"{name}, and its database is stamped so.", style="green")

    def _switch(self, name: str, confirm: str) -> None:
        done = switching.switch_environment(name, actor=self.actor(), confirm=confirm)
        if self.console.as_json:
            self.console.result({"result": vars(done)})
            return
        what = f"from {done.previous} to {name}" if done.changed else f"{name} already"
        self.console.say(f"{'Switched ' if done.changed else ''}{what}: {done.url}", style="green")
        for note in done.notes:
            self.console.note(note)
