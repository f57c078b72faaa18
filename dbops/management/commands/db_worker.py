"""``db_worker``: runs what admin and API asked for, and looks after what dead workers left."""

import logging
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import Error as DatabaseLayerError
from django.db import close_old_connections
from django.db.utils import OperationalError
from django_tasks_db.management.commands.db_worker import Command as WorkerCommand

from dbops.sweep import mark_lost_operations, sweep

_LOOK_SECONDS = 30
logger = logging.getLogger("dbops.worker")


class Command(WorkerCommand):
    help = "Run queued operations. Ctrl-C or TERM stops it; a running operation is cancelled."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        # A reload in the middle of a restore would cancel it.
        parser.set_defaults(reload=False)

    def handle(self, **options: Any) -> None:
        try:
            sweep(actor="worker")
        except DatabaseLayerError as error:
            raise CommandError(
                f"The control database cannot be used ({error}). New here? python manage.py migrate"
            ) from error
        stop = threading.Event()
        janitor = threading.Thread(target=_look_after_lost, args=(stop,), daemon=True)
        janitor.start()
        try:
            super().handle(**options)
        finally:
            stop.set()


def _look_after_lost(stop: threading.Event) -> None:
    while not stop.wait(_LOOK_SECONDS):
        try:
            mark_lost_operations(actor="worker")
        except OperationalError as error:  # control is busy or away: the next look will tell
            logger.warning("Could not look for lost operations: %s", error)
        finally:
            close_old_connections()
