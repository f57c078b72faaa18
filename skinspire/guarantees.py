"""Where the accounts' triggers meet what installs triggers, with the numbers of the settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections, transaction

from accounts.guarantees import SQL, TRIGGERS
from dbops.exceptions import DbopsError
from dbops.postgres.triggers.sets import SetTrigger, TriggerSet, install_sets


def trigger_sets() -> tuple[TriggerSet, ...]:
    """The sets this installation brings."""
    numbers = {
        "lock_account": (settings.ACCOUNT_LOCK_AFTER, settings.ACCOUNT_LOCK_MINUTES * 60),
        "limit_sessions": (settings.ACCOUNT_SESSION_LIMIT,),
    }
    triggers = tuple(
        SetTrigger(name, table, when, function, tuple(map(str, numbers.get(function, ()))), each)
        for name, table, when, each, function in TRIGGERS
    )
    return (TriggerSet("accounts", SQL, triggers),)


def install_guarantees(using: str, **_: Any) -> None:
    """Receiver of ``post_migrate``: accounts are never without their rules, and a changed number
    arrives with the next migration.

    Raises:
        CommandError: the server refused it; nothing was installed.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(using=using):
            connection.ensure_connection()
            install_sets(connection.connection, trigger_sets())
    except DbopsError as error:
        raise CommandError(f"The rules of accounts were not installed: {error}") from error
