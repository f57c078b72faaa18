"""What a migration is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dbops.operations.copy_aside import CopyOptions
from dbops.operations.migration_run import LOCK_TIMEOUT, Migrator, Step
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

    def way_of(self, steps: Sequence[Step]) -> str:
        """``in place``, ``aside`` or ``together``: how these would be done."""
        if self.way == "in_place":
            return "in place"
        if self.way == "aside" or not all(step.atomic for step in steps):
            return "aside"
        return "together"

    def why_a_copy(self, steps: Sequence[Step]) -> str:
        """Why these cannot be done without a copy of the database; "" where they can."""
        if self.rehearse or self.only_rehearse:
            return "a rehearsal runs on a copy"
        if self.way_of(steps) != "aside":
            return ""
        lasting = [step.label for step in steps if not step.atomic]
        if not lasting:
            return "--aside runs on a copy"
        return f"{', '.join(lasting)} cannot be rolled back and so runs on a copy"

    def without_a_copy(self, steps: Sequence[Step]) -> str:
        """The options that do the same where they stand."""
        rehearsing = ["--no-rehearse"] * (self.rehearse or self.only_rehearse)
        return " ".join([*rehearsing, *["--in-place"] * (self.way_of(steps) == "aside")])
