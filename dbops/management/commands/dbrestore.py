"""``dbrestore``: a backup, or a dump made elsewhere, put in the place of an environment."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from dbbackup.management.commands.dbrestore import Command as DbrestoreCommand

from dbops import conf
from dbops.exceptions import BackupNotFoundError, ConfigurationError, UsageError
from dbops.management.operation_command import (
    DbopsCommand,
    add_confirm_argument,
    add_json_argument,
    named_environment,
    operation_json,
)
from dbops.models import Backup, Operation


class Command(DbopsCommand, DbrestoreCommand):
    help = (
        "Restore a backup (-i, default: the latest), or a dump made elsewhere (-I: pg_dump's "
        "custom archive or plain SQL, also .gz). What it replaces is kept for undo_operation."
    )
    example = "dbrestore -d dev -I pagila.dump"

    def add_arguments(self, parser: ArgumentParser) -> None:
        DbrestoreCommand.add_arguments(self, parser)
        add_json_argument(parser)
        add_confirm_argument(parser)
        parser.add_argument("--env", metavar="ENV", help="the same as -d")
        parser.add_argument(
            "--no-mask",
            action="store_true",
            help="let a protected environment's backup into another one as it is",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_unsupported(options)
        target = conf.resolve_environment(named_environment(options))
        wishes = {**_source(options, target), "unmasked": options["no_mask"]}
        what = wishes.get("name") or wishes["path"]
        self.confirm(f"Replace {target} by {what}?", Operation.Kind.RESTORE, target, options)
        outcome = self.run_operation(Operation.Kind.RESTORE, options, target=target, wishes=wishes)
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        self.console.say(
            f"{target} holds {what}: {result['rows']} rows in {result['tables']} tables, "
            f"out of use for {result['outage_ms']:.0f} ms.",
            style="green",
        )
        if result["previous"]:
            self.console.note(
                f"What was there is kept. Put it back: python manage.py undo_operation "
                f"{outcome.operation.id}"
            )


def _source(options: dict[str, Any], target: str) -> dict[str, str]:
    name, path = options["input_filename"], options["input_path"]
    if "" in (name, path):
        raise UsageError("-i and -I need a value: an empty one may be a variable nobody set.")
    if name and path:
        raise UsageError("-i and -I exclude each other: one backup is restored at a time.")
    if path:
        return {"path": str(Path(path).absolute())}
    if name:
        return {"name": name}
    latest = Backup.objects.filter(environment=target, partial=False).first()
    if latest is None:
        raise BackupNotFoundError(f"There is no backup of {target}.")
    return {"name": latest.name}


def _refuse_unsupported(options: dict[str, Any]) -> None:
    if options["decrypt"] or options["passphrase"]:
        raise ConfigurationError("Encrypted backups are not available in this version.")
    for option, value in (
        ("--no-drop", options["no_drop"]),
        ("--pg-options", options["pg_options"]),
        ("--schema", options["schema"]),
        ("--servername", options["servername"]),
    ):
        if value:
            raise UsageError(
                f"{option} is not supported: a restore replaces a whole database or nothing."
            )
