"""``listbackups``: the catalogue, newest first."""

from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import humanize

from dbops import conf
from dbops.backups.earlier import EarlierBackup, earlier_backups
from dbops.exceptions import StorageReadError
from dbops.management.console import size
from dbops.management.operation_command import DbopsCommand
from dbops.models import Backup


class Command(DbopsCommand):
    help = "List the backups that exist, newest first."
    example = "listbackups -d test"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "-d", "--database", "--env", metavar="ENV", help="only this environment"
        )
        parser.add_argument(
            "-e", "--encrypted", action="store_true", default=None, help="only encrypted ones"
        )
        parser.add_argument(
            "-E", "--not-encrypted", action="store_false", dest="encrypted", help="only others"
        )
        parser.add_argument("-q", "--quiet", action="store_true", help="names alone")

    def handle(self, *args: Any, **options: Any) -> None:
        backups = Backup.objects.all()
        if options["database"] is not None:
            backups = backups.filter(environment=conf.resolve_environment(options["database"]))
        if options["encrypted"] is not None:
            backups = backups.filter(encrypted=options["encrypted"])
        found = [item.to_json() for item in backups]
        if options["database"] is None:  # of earlier ones nobody wrote down whose they are
            found += [
                item.to_json()
                for item in self._earlier()
                if options["encrypted"] in (None, item.encrypted)
            ]
        found.sort(key=lambda item: item["created_at"], reverse=True)
        if self.console.as_json:
            self.console.result({"result": {"backups": found}})
        elif options["quiet"]:
            for item in found:
                self.console.say(item["name"])
        else:
            named = options["database"]
            self._show(found, "" if named is None else conf.resolve_environment(named))

    def _earlier(self) -> list[EarlierBackup]:
        try:
            return earlier_backups(conf.backup_store())
        except StorageReadError as error:  # the catalogue is known all the same
            self.console.note(f"{error}")
            return []

    def _show(self, backups: list[dict[str, Any]], environment: str) -> None:
        if not backups:
            of, option = (f" of {environment}", f" -d {environment}") if environment else ("", "")
            self.console.note(
                f"There is no backup{of} yet. Make one: python manage.py dbbackup{option}"
            )
            return
        rows = [
            (item["name"], item["environment"] or "?", _age(item["created_at"]),
             size(item["size"]), ", ".join(_marks(item)))
            for item in backups
        ]  # fmt: skip
        self.console.table(("name", "environment", "made", "size", ""), rows)


def _marks(item: dict[str, Any]) -> Iterator[str]:
    if not item["signed"]:
        yield "unsigned"
    elif item["verified_at"]:
        yield f"{item['verified_how']} {_age(item['verified_at'])}"
    else:
        yield "not verified"
    for mark in ("encrypted", "pinned", "partial"):
        if item.get(mark):
            yield mark


def _age(moment: str) -> str:
    return humanize.naturaltime(datetime.fromisoformat(moment))
