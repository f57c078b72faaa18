"""``migrate``: without ``--database``, both the active environment's database and ``control``."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import DEFAULT_DB_ALIAS

from skinspire.router import CONTROL


class Command(MigrateCommand):
    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def get_check_kwargs(self, options: dict[str, Any]) -> dict[str, Any]:
        return super().get_check_kwargs(options) | {"databases": _aliases(options)}

    def handle(self, *args: Any, **options: Any) -> Any:
        # A named app lives in one of the two databases only; the router skips it in the other.
        for alias in _aliases(options):
            if alias == CONTROL:
                Path(settings.SKINSPIRE_HOME).mkdir(mode=0o711, parents=True, exist_ok=True)
            super().handle(*args, **{**options, "database": alias})


def _aliases(options: dict[str, Any]) -> list[str]:
    return [options["database"]] if options["database"] else [CONTROL, DEFAULT_DB_ALIAS]
