"""Looking after a running operation: heartbeat, progress, cancel requests and signals."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django.db import Error as DatabaseLayerError
from django.db import connections, transaction
from django.utils import timezone

from dbops.models import Operation, OperationLog
from dbops.operations.context import Listener, OperationContext
from skinspire.router import CONTROL

HEARTBEAT_SECONDS = 2.0
logger = logging.getLogger("dbops.watch")


class Watch:
    """Keeps the row alive while the operation runs: heartbeat, progress, cancel flag, steps."""

    def __init__(self, operation: Operation, listener: Listener | None) -> None:
        self._operation = operation
        self._listener = listener
        self._step = ""
        self._progress: int | None = None
        self._done = threading.Event()
        self._lines: list[OperationLog] = []
        self._lock = threading.Lock()
        self.context = OperationContext(
            operation_id=operation.id,
            actor=operation.actor,
            on_step=self._on_step,
            on_log=self._on_log,
        )

    def _tell(self, label: str, done: int | None, total: int | None) -> None:
        if self._listener is None:
            return
        try:
            self._listener(label, done, total)
        except OSError:  # nobody listens any more; that is no reason to stop
            self._listener = None

    def _on_step(self, label: str, done: int | None, total: int | None) -> None:
        if label != self._step:
            self._step = label
            self._on_line("step", label)
        self._progress = min(100, done * 100 // total) if done is not None and total else None
        self._tell(label, done, total)

    def _on_log(self, message: str) -> None:
        self._on_line("log", message)
        self._tell(message, None, None)

    def _on_line(self, kind: str, text: str) -> None:
        line = OperationLog(operation=self._operation, at=timezone.now(), kind=kind, text=text)
        with self._lock:
            self._lines.append(line)

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
            self._write()

    def _beat(self) -> None:
        try:
            while not self._done.wait(HEARTBEAT_SECONDS):
                self._write()
                self._hear_cancel()
        finally:
            connections.close_all()  # this thread's own

    def _hear_cancel(self) -> None:
        asked = Operation.objects.filter(pk=self._operation.pk).exclude(cancel_requested_by="")
        try:
            if asked.exists():
                self.context.cancelled.set()
        except DatabaseLayerError as error:
            logger.warning("Could not look for a cancel request: %s", error)

    def _write(self) -> None:
        """Heartbeat and lines; a control database that is busy gets them the next time."""
        with self._lock:
            lines, self._lines = self._lines, []
        try:
            with transaction.atomic(using=CONTROL):
                OperationLog.objects.bulk_create(lines)
                Operation.objects.filter(pk=self._operation.pk).update(
                    heartbeat_at=timezone.now(), step=self._step[:60], progress=self._progress
                )
        except DatabaseLayerError as error:
            logger.warning("Could not record progress: %s", error)
            with self._lock:
                self._lines = lines + self._lines


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, unwinding like Ctrl-C."""


@contextmanager
def signals_cancel(context: OperationContext) -> Iterator[list[int]]:
    """Ctrl-C, TERM and HUP unwind the operation, which ends its children and drops what it built.

    Once the swap has begun they come too late: they are kept in the list that is yielded.
    """
    late: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield late
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if context.committing:
            late.append(number)
            return
        # The unwinding itself must not be interrupted: a second Ctrl-C would leave the scratch
        # database behind.
        for other in handled:
            signal.signal(other, signal.SIG_IGN)
        context.cancelled.set()  # for the other threads of the operation
        raise (KeyboardInterrupt if number == signal.SIGINT else Terminated)(number)

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield late
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
