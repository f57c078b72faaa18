"""``dbrestore``: a backup, or a dump made elsewhere, put in the place of an environment."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from dbbackup.management.commands.dbrestore import Command as DbrestoreCommand

from dbops import conf
from dbops.catalogue import latest_backup
from dbops.exceptions import UsageError
from dbops.management.dbbackup_arguments import OF_RESTORE, reword
from dbops.management.operation_command import (
    DbopsCommand,
    add_confirm_argument,
    add_json_argument,
    add_load_arguments,
    named_environment,
    operation_json,
)
from dbops.models import Operation
from dbops.postgres.databases import operation_of_scratch
from dbops.runner import Outcome
from dbops.wording import counted

_LONGEST_NAME = 63  # bytes, of any PostgreSQL identifier


class Command(DbopsCommand, DbrestoreCommand):
    help = (
        "Restore a backup (-i, default: the latest), or a dump made elsewhere (-I: any of "
        "pg_dump's formats, also .gz, .zst, .gpg or .age). What it replaces is kept for "
        "undo_operation."
    )
    example = "dbrestore -d dev -I pagila.dump"

    def add_arguments(self, parser: ArgumentParser) -> None:
        DbrestoreCommand.add_arguments(self, parser)
        reword(parser, OF_RESTORE, refused={"passphrase", "no_drop", "pg_options"})
        add_json_argument(parser)
        add_confirm_argument(parser)
        parser.add_argument("--env", metavar="ENV", help="the same as -d")
        parser.add_argument(
            "--into", metavar="NAME", help="restore into a new database on the same server"
        )
        parser.add_argument(
            "--table",
            metavar="TABLE",
            action="append",
            default=[],
            help="replace only this table (schema.table); may be repeated",
        )
        parser.add_argument(
            "--in-place",
            action="store_true",
            help="replace everything in one transaction, for a role without CREATEDB: the tables "
            "are locked meanwhile, and only a backup keeps what is replaced",
        )
        parser.add_argument(
            "--migrate",
            action="store_true",
            help="apply this code's pending migrations before it takes the database's place",
        )
        parser.add_argument(
            "--unknown-migrations",
            action="store_true",
            help="restore it though it holds migrations that this code does not have",
        )
        add_load_arguments(parser)
        parser.add_argument(
            "--no-owner",
            action="store_true",
            help="let everything belong to the connecting role",
        )
        parser.add_argument(
            "--skip-privileged",
            action="store_true",
            help="leave out what only a superuser can restore (event triggers and the like)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_unsupported(options)
        target = conf.resolve_environment(named_environment(options))
        wishes = {**_source(options, target), **_wishes(options)}
        what = wishes.get("name") or wishes["path"]
        question = _question(target, what, wishes)
        if not wishes["into"]:  # nothing is replaced
            self.confirm(question, Operation.Kind.RESTORE, options, target=target, wishes=wishes)
        outcome = self.run_operation(Operation.Kind.RESTORE, options, target=target, wishes=wishes)
        if self.console.as_json:
            self.console.result(operation_json(outcome))
        elif not options["quiet"]:
            self._tell(outcome, wishes["into"] or target, what)

    def _tell(self, outcome: Outcome, where: str, what: str) -> None:
        result = outcome.result
        self.console.say(
            f"{where} holds {what}: {counted(result['rows'], 'row')} in "
            f"{counted(result['tables'], 'table')}, "
            f"out of use for {result['outage_ms']:.0f} ms.",
            style="green",
        )
        if result["previous"]:
            self.console.note(
                f"What was there is kept. Put it back: python manage.py undo_operation "
                f"{outcome.operation.id}"
            )
        if pending := result["pending_migrations"]:
            self.console.note(
                f"This code has {counted(len(pending), 'further migration')}, from {pending[0]} "
                f"on. Apply: python manage.py apply_migration --env {outcome.operation.target}",
                style="yellow",
            )
        if result["saved_as"]:
            self.console.note(f"What was there is kept as backup {result['saved_as']}.")


def _question(target: str, what: str, wishes: dict[str, Any]) -> str:
    if wishes["in_place"]:
        return (
            f"Replace everything in {target} by {what}, in place? Its tables are locked until it "
            f"is done, and only a backup made before keeps what is there."
        )
    parts = [*wishes["tables"], *wishes["schemas"]]
    if parts:
        return f"Replace {', '.join(parts)} in {target} by what {what} holds of it?"
    return f"Replace {target} by {what}?"


def _wishes(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "unmasked": options["no_mask"],
        "into": _new_database(options["into"]),
        "tables": [name if "." in name else f"public.{name}" for name in _names(options["table"])],
        "schemas": _names(options["schema"]),
        "in_place": options["in_place"],
        "jobs": options["jobs"],
        "no_owner": options["no_owner"],
        "skip_privileged": options["skip_privileged"],
        "migrate": options["migrate"],
        "unknown_migrations": options["unknown_migrations"],
    }


def _names(given: list[str]) -> list[str]:
    for name in given:
        if not name or len(name.encode(errors="replace")) > 2 * _LONGEST_NAME + 1:
            raise UsageError(f"{name[:80]!r} is no name of a table or schema.")
    return list(dict.fromkeys(given))


def _new_database(name: str | None) -> str | None:
    if name is None:
        return None
    if not name or len(name.encode()) > _LONGEST_NAME or operation_of_scratch(name):
        raise UsageError(f"{name[:80]!r} is no name for a new database.")
    return name


def _source(options: dict[str, Any], target: str) -> dict[str, str]:
    name, path = options["input_filename"], options["input_path"]
    if "" in (name, path):
        raise UsageError("-i and -I need a value: an empty one may be a variable nobody set.")
    for given in (name, path):
        if given is not None and given != given.encode(errors="replace").decode():
            raise UsageError(f"{given!a} is not written in UTF-8.")
    if name and path:
        raise UsageError("-i and -I exclude each other: one backup is restored at a time.")
    if path:
        return {"path": str(Path(path).absolute())}
    if name:
        return {"name": name}
    return {"name": latest_backup(target, options["servername"] or "")}


def _refuse_unsupported(options: dict[str, Any]) -> None:
    if options["passphrase"] is not None:
        raise UsageError(
            "-p is not supported: every user of this machine could read it in the list of "
            "processes.",
            hint="Set BACKUP_GPG_PASSPHRASE_FILE, or let gpg-agent know it.",
        )
    if options["no_drop"]:
        raise UsageError("--no-drop is not supported: what a restore replaces, it replaces whole.")
    if options["pg_options"]:
        raise UsageError("--pg-options is not supported: see --jobs, --no-owner and --table.")
