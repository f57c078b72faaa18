"""``apply_migration``: what is pending, rehearsed, backed up, all or nothing."""

from argparse import ArgumentParser
from typing import Any

from dbops.management.migration_arguments import MigratingCommand, tell_migrated
from dbops.management.operation_command import environment_option
from dbops.models import Operation


class Command(MigratingCommand):
    help = (
        "Apply pending migrations after a backup: all of them, or the database is as it was. "
        "A protected environment's are rehearsed on a copy first."
    )
    example = "apply_migration --env dev --rehearse"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        rehearsing = parser.add_mutually_exclusive_group()
        rehearsing.add_argument(
            "--rehearse",
            action="store_true",
            help="only try it on a copy: locks, duration, rows rewritten, and the way back",
        )
        rehearsing.add_argument(
            "--no-rehearse", action="store_true", help="go ahead without trying it on a copy"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        outcome = self.migrate(
            Operation.Kind.MIGRATE,
            environment,
            options,
            only_rehearse=options["rehearse"],
            rehearse=False if options["no_rehearse"] else None,
        )
        tell_migrated(self.console, outcome, f"Applied to {environment}")
