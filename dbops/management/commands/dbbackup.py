"""``dbbackup``: django-dbbackup's command, whose dump streams and is proven by a manifest."""

from argparse import ArgumentParser
from typing import Any

from dbbackup.management.commands.dbbackup import Command as DbbackupCommand

from dbops import conf
from dbops.exceptions import ConfigurationError, UsageError
from dbops.management.console import size
from dbops.management.dbbackup_arguments import OF_BACKUP, reword
from dbops.management.operation_command import (
    DbopsCommand,
    add_json_argument,
    named_environment,
    operation_json,
)
from dbops.models import Operation
from dbops.runner import Outcome
from dbops.wording import counted


class Command(DbopsCommand, DbbackupCommand):
    help = "Back up one environment (or several, separated by commas) as a standard archive."
    example = "dbbackup -d test"

    def add_arguments(self, parser: ArgumentParser) -> None:
        DbbackupCommand.add_arguments(self, parser)
        reword(parser, OF_BACKUP, refused={"clean", "output_path"})
        add_json_argument(parser)
        parser.add_argument("--env", metavar="ENV", help="the same as -d")
        parser.add_argument(
            "--checksums",
            action="store_true",
            help="note a checksum of every table's rows, for verify_backup --full",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environments = _environments(options)
        outcomes = [self._back_up(environment, options) for environment in environments]
        if self.console.as_json:
            first = operation_json(outcomes[0])
            others = [operation_json(outcome) for outcome in outcomes]
            self.console.result(first if len(others) == 1 else {"operations": others})

    def _back_up(self, environment: str, options: dict[str, Any]) -> Outcome:
        outcome = self.run_operation(
            Operation.Kind.BACKUP, options, source=environment, wishes=_wishes(options)
        )
        result = outcome.result
        if not (self.console.as_json or options["quiet"]):
            self.console.say(
                f"{environment} backed up as {result['name']}: {counted(result['rows'], 'row')} in "
                f"{counted(result['tables'], 'table')}, {size(result['size'])}"
                f"{', encrypted' if result['encrypted'] else ''}.",
                style="green",
            )
        return outcome


def _environments(options: dict[str, Any]) -> list[str]:
    named = named_environment(options)
    if named is None:
        return [conf.active_environment()]
    keys = [key for key in named.split(",") if key.strip()]
    if not keys:
        raise UsageError("-d names no environment.", hint="One of: dev, test, prod")
    return [conf.resolve_environment(key) for key in keys]


def _wishes(options: dict[str, Any]) -> dict[str, Any]:
    if options["encrypt"] and not conf.encryption_keys().can_encrypt:
        raise ConfigurationError(
            "For whom the backup is to be encrypted is not known; nothing was written.",
            hint="Set BACKUP_RECIPIENTS; then every backup is encrypted, with or without -e.",
        )
    if options["output_path"]:
        raise UsageError(
            "-O is not supported: a backup lies in the backup storage, beside its manifest.",
            hint="Name it with -o, or point STORAGES['dbbackup'] elsewhere.",
        )
    if options["clean"]:
        raise UsageError(
            "-c is not supported: what counts is not how many, but the last good one.",
            hint="Retention is by manifests: python manage.py prune_backups --dry-run",
        )
    excluded = (options["exclude_tables"] or "").replace(" ", "")
    return {
        "name": options["output_filename"] or "",
        "server_name": options["servername"] or "",
        "without_rows_of": [name for name in excluded.split(",") if name],
        "schemas": list(options["schema"]),
        "checksums": options["checksums"],
    }
