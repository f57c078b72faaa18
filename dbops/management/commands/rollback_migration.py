"""``rollback_migration``: undo the latest migrations, with what depends on them."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf
from dbops.management.migration_arguments import (
    MigratingCommand,
    number_of_steps,
    tell_migrated,
)
from dbops.management.operation_command import environment_option
from dbops.migrating.migrator import DjangoMigrator
from dbops.models import Operation
from dbops.operations.migration import plan_migration


class Command(MigratingCommand):
    help = (
        "Undo the migrations that were applied last, after a backup: all of them, or the database "
        "is as it was. One that cannot be undone is refused before anything is touched."
    )
    example = "rollback_migration --steps 1 --env dev"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--steps", metavar="N", type=number_of_steps, default=1, help="how many (default: 1)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment, steps = environment_option(options), options["steps"]
        migrator = DjangoMigrator(environment, undo=steps)
        plan = plan_migration(migrator, conf.database_params(environment), environment)
        labels = [step.label for step in plan]
        if labels:
            what = f"Undo {', '.join(labels)} in {environment}? What they made is lost."
            self.confirm(what, Operation.Kind.ROLLBACK, options, target=environment)
        outcome = self.migrate(
            Operation.Kind.ROLLBACK, environment, options,
            steps=steps, rehearse=False, migrations=labels,
        )  # fmt: skip
        tell_migrated(self.console, outcome, f"Undone in {environment}")
