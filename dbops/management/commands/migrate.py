"""``migrate``: without ``--database``, both the active environment's database and ``control``."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import DEFAULT_DB_ALIAS

from skinspire.router import CONTROL


class Command(MigrateCommand):
    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database=None)

    def handle(self, *args: Any, **options: Any) -> Any:
        # A named app lives in one of the two databases only; the router skips it in the other.
        named = options["database"]
        for alias in [named] if named else [CONTROL, DEFAULT_DB_ALIAS]:
            if alias == CONTROL:
                _make_home()
            super().handle(*args, **{**options, "database": alias})


def _make_home() -> None:
    """The directory of a SQLite control database, on its first use."""
    from pathlib import Path

    from django.conf import settings

    Path(settings.SKINSPIRE_HOME).mkdir(mode=0o711, parents=True, exist_ok=True)
