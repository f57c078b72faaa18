"""What a kind of operation is: what it runs, locks, and records."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dbops import conf
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.postgres.params import ConnectionParams

Result = Mapping[str, Any]
_MOST_JOBS = 4


def _see_nothing(operation: Operation) -> None:
    """Most operations find out for themselves, under their lock."""


def _keep_nothing(operation: Operation, result: Result) -> None:
    """Most operations leave no record but their own row."""


@dataclass(frozen=True)
class Wanted:
    """A database an operation needs for itself, or to stay as it is meanwhile."""

    environment: str
    database: ConnectionParams
    exclusive: bool


@dataclass(frozen=True)
class KindOfOperation:
    """One kind: what it runs, whether it writes its target, what it records on success."""

    execute: Callable[[Operation, OperationContext], Result]
    writes: bool = True
    look: Callable[[Operation], object] = _see_nothing
    """Looks before the locks are taken; raises what would stop the operation anyway."""
    keep: Callable[[Operation, Result], None] = _keep_nothing
    databases: Callable[[Operation], list[Wanted]] | None = None
    """What it locks; None for its target, and its source shared."""
    patience: float = 0.0
    """Seconds it waits for a lock; most would not find what they were asked about afterwards."""

    def locks(self, operation: Operation) -> list[Wanted]:
        """The databases it concerns."""
        if self.databases is not None:
            return self.databases(operation)
        if not self.writes:
            named = [(operation.target or operation.source, False)]
        else:
            named = [(operation.target, True), (operation.source, False)]
        return [Wanted(it, conf.database_params(it), exclusive) for it, exclusive in named if it]


def lock_nothing(operation: Operation) -> list[Wanted]:
    """What concerns only the storage, or a scratch database of its own."""
    return []


def jobs(options: Mapping[str, Any]) -> int:
    """How many load side by side."""
    return options.get("jobs") or min(os.cpu_count() or 1, _MOST_JOBS)
