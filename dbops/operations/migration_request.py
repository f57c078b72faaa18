"""What a migration is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dbops.operations.copy_aside import CopyOptions
from dbops.operations.migration_run import LOCK_TIMEOUT, Migrator
from dbops.postgres.params import ConnectionParams
from dbops.postgres.triggers import Wishes


@dataclass(frozen=True)
class MigrateRequest:
    """Which database to migrate, by what, and with how much care."""

    database: ConnectionParams
    environment: str
    migrator: Migrator
    save: Callable[[], str] | None = None
    """Backs the database up; None where none is wanted."""
    rehearse: bool = False
    only_rehearse: bool = False
    way: str = "auto"
    """``auto``, ``aside`` or ``in_place``."""
    lock_timeout: float = LOCK_TIMEOUT
    copy: CopyOptions = field(default_factory=CopyOptions)
    expected: tuple[str, ...] | None = None
    """What somebody agreed to; None where nobody was asked."""
    triggers: Wishes = field(default_factory=Wishes)
