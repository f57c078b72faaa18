"""How an operation speaks to whoever runs it, without knowing who that is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from dbops.exceptions import OperationCancelled

Listener = Callable[[str, int | None, int | None], None]
"""Hears (label, done, total) of each step; ``total`` None where it is not known."""


def _deaf(label: str, done: int | None, total: int | None) -> None:
    """A listener for operations nobody watches."""


@dataclass
class OperationContext:
    """One run of an operation: who acts, how to report, whether to stop."""

    operation_id: str
    """12 hexadecimal digits; scratch databases and temporary files bear it."""
    actor: str = ""
    on_step: Listener = _deaf
    on_log: Callable[[str], None] = lambda _: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    confirm_locks: Callable[[], object] = lambda: None
    """Raises where a lock the operation runs under was lost."""
    committing: bool = False
    """True from the moment the operation can no longer be stopped half-way."""

    @property
    def application(self) -> str:
        """``application_name`` of every connection the operation opens."""
        return f"skinspire operation {self.operation_id}"

    def step(self, label: str, done: int | None = None, total: int | None = None) -> None:
        """Say what happens now; raises OperationCancelled if it should not."""
        self.check_cancelled()
        self.on_step(label, done, total)

    def log(self, message: str) -> None:
        """Keep a sentence for whoever looks at the operation later."""
        self.on_log(message)

    def check_cancelled(self) -> None:
        """Raise OperationCancelled once somebody asked to stop; called often, costs nothing."""
        if self.cancelled.is_set() and not self.committing:
            raise OperationCancelled("The operation was cancelled; the target is as it was.")

    def begin_commit(self) -> None:
        """The last moment to cancel: from here on a signal or a cancel comes too late, so that
        "cancelled" always means the target is as it was."""
        self.check_cancelled()
        self.confirm_locks()
        self.committing = True
