"""Telling PostgreSQL who acts: triggers write it into ``created_by`` and ``updated_by``."""

from __future__ import annotations

from django.db import DatabaseError, connection

_SET = "SELECT set_config('skinspire.actor', %s, false)"


def act_as(username: str) -> None:
    """Name the acting user on the ``default`` connection."""
    with connection.cursor() as cursor:
        cursor.execute(_SET, [username])


def act_as_nobody() -> None:
    """Forget the acting user: a connection may outlive the request and serve another one."""
    if connection.connection is None:
        return
    try:
        act_as("")
    except DatabaseError:
        # It cannot be told to forget, so it must not be used again.
        connection.close()
