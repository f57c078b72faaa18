"""Keeps what must survive a restore in ``control`` and everything else out of it."""

from __future__ import annotations

from typing import Any

from skinspire.databases import REPLICA_SUFFIX

CONTROL = "control"
CONTROL_APPS = frozenset({"dbops", "django_tasks_database"})


class ControlRouter:
    """Operations, the journal, the backup catalogue and the task queue live in ``control``."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return CONTROL if model._meta.app_label in CONTROL_APPS else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return self.db_for_read(model)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        if db.endswith(REPLICA_SUFFIX):  # its tables come from the primary
            return False
        return (db == CONTROL) == (app_label in CONTROL_APPS)
