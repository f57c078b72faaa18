"""By whom a migration was applied: the journal knows, whichever command applied it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import Error as DatabaseLayerError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from dbops import conf, journal
from dbops.exceptions import DbopsError
from dbops.models import JournalEntry
from dbops.operations.migration_state import read_applied

_EVENT = "migrated"
_CLOCKS = timedelta(seconds=2)
"""By how much the clocks of two machines may differ."""
logger = logging.getLogger("dbops.migrations")


@contextmanager
def noting(environment: str, actor: str, operation: str = "") -> Iterator[None]:
    """Journal what the block has applied to the environment's database, also where it fails.

    The deed counts: what cannot be looked up or recorded is told, and fails nothing.
    """
    before, began = _look(environment), timezone.now()
    try:
        yield
    finally:
        after = _look(environment)
        applied = sorted(after - before) if before is not None and after else []
        if applied:
            try:
                journal.record(
                    _EVENT, actor=actor, operation=operation, environment=environment,
                    migrations=applied, began=began.isoformat(),
                )  # fmt: skip
            except (DatabaseLayerError, OSError) as error:
                logger.info("Who migrated %s could not be recorded: %s", environment, error)


def _look(environment: str) -> set[str] | None:
    try:
        return set(read_applied(conf.database_params(environment)))
    except DbopsError:
        return None


def who_applied(applied: Mapping[str, datetime]) -> dict[str, str]:
    """The actor by label of those whose time lies within an entry that names them.

    What a copy or a backup brought along keeps the name of who applied it where it comes from.
    """
    found: dict[str, str] = {}
    if not applied:
        return found
    try:
        for entry in JournalEntry.objects.filter(event=_EVENT).order_by("-sequence"):
            began = parse_datetime(entry.details["began"])
            for label in entry.details["migrations"]:
                moment = applied.get(label)
                if moment and began and began - _CLOCKS <= moment <= entry.at + _CLOCKS:
                    found.setdefault(label, entry.actor)
    except DatabaseLayerError as error:  # an installation whose journal was never made
        logger.info("Who applied the migrations cannot be told: %s", error)
    return found
