"""``listbackups``: the catalogue, newest first."""

from argparse import ArgumentParser
from typing import Any

import humanize

from dbops import conf
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
        if self.console.as_json:
            self.console.result({"result": {"backups": [item.to_json() for item in backups]}})
        elif options["quiet"]:
            for item in backups:
                self.console.say(item.name)
        else:
            self._show(list(backups))

    def _show(self, backups: list[Backup]) -> None:
        if not backups:
            self.console.note("There is no backup yet. Make one: python manage.py dbbackup")
            return
        rows = [
            (item.name, item.environment, humanize.naturaltime(item.created_at), size(item.size),
             f"{item.rows:,}", "yes" if item.verified_at else "no")
            for item in backups
        ]  # fmt: skip
        self.console.table(("name", "environment", "made", "size", "rows", "verified"), rows)
