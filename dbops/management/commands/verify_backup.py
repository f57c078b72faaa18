"""``verify_backup``: is it what was written, and can it be restored?"""

from argparse import ArgumentParser
from typing import Any

from dbops import conf
from dbops.catalogue import latest_backup
from dbops.exceptions import UsageError
from dbops.management.operation_command import (
    DbopsCommand,
    add_load_arguments,
    operation_json,
)
from dbops.models import Backup, Operation


class Command(DbopsCommand):
    help = (
        "Check a backup's signature and checksum; with --full restore it aside, compare what "
        "arrived with its manifest, and drop it again."
    )
    example = "verify_backup --full test-20261121T030000Z-1f2e3d4c5b6a.dump.zst"
    takes_environment = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "name", metavar="NAME", nargs="?", help="the backup (default: the environment's latest)"
        )
        parser.add_argument(
            "--full", action="store_true", help="restore it aside, on the environment's server"
        )
        add_load_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["name"] == "":
            raise UsageError("NAME is empty; leave it out for the latest.")
        name = options["name"] or latest_backup(conf.resolve_environment(options["env"]))
        outcome = self.run_operation(
            Operation.Kind.VERIFY,
            options,
            target=_where(name, options) if options["full"] else "",
            wishes={
                "name": name,
                "full": options["full"],
                "jobs": options["jobs"],
                "unmasked": options["no_mask"],
            },
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        for check in outcome.result["checks"]:
            self.console.say(f"  {check['name']:10} {check['value']}")
        self.console.say(f"{name} is what was written.", style="green")


def _where(name: str, options: dict[str, Any]) -> str:
    """On its own environment's server, unless another is named."""
    backup = Backup.objects.filter(name=name).first()
    if options["env"] is None and backup is not None:
        return backup.environment
    return conf.resolve_environment(options["env"])
