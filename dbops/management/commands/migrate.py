"""``migrate``: without ``--database``, both the active environment's database and ``control``."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import DEFAULT_DB_ALIAS

from dbops import conf
from dbops.exceptions import DbopsError
from dbops.migrating_directly import migrating_directly
from dbops.operations.context import OperationContext
from skinspire.acting import os_account
from skinspire.router import CONTROL


class Command(MigrateCommand):
    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)  # type: ignore[arg-type]
        parser.set_defaults(database=None)

    def get_check_kwargs(self, options: dict[str, Any]) -> dict[Any, Any]:
        return super().get_check_kwargs(options) | {"databases": _aliases(options)}

    def handle(self, *args: Any, **options: Any) -> Any:
        if settings.CONFIGURATION_ERROR:
            raise CommandError(settings.CONFIGURATION_ERROR[1])
        # A named app lives in one of the two databases only; the router skips it in the other.
        for alias in _aliases(options):
            self._migrate(alias, args, options | {"database": alias})

    def _migrate(self, alias: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if alias == CONTROL:
            _make_control_file()
            super().handle(*args, **options)
            return
        environment = conf.active_environment() if alias == DEFAULT_DB_ALIAS else alias
        looking = options["plan"] or options["check_unapplied"]
        context = OperationContext("", actor=os_account(), on_log=self.stderr.write)
        try:
            with migrating_directly(alias, environment, context, writing=not looking):
                super().handle(*args, **options)
        except DbopsError as error:
            raise CommandError(f"{error} {error.hint}") from error


def _make_control_file() -> None:
    """A SQLite control database is its owner's alone; SQLite itself would follow the umask."""
    home = Path(settings.SKINSPIRE_HOME)
    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    file = settings.DATABASES[CONTROL]["NAME"]
    if isinstance(file, Path) and not file.exists():
        file.touch(mode=0o600)


def _aliases(options: dict[str, Any]) -> list[str]:
    named = [options["database"]] if options["database"] else [CONTROL, DEFAULT_DB_ALIAS]
    return [conf.direct_alias(alias) for alias in named]
