"""Operations in the background: the transport is django-tasks, the truth is the Operation row."""

from __future__ import annotations

import os
import signal
from typing import Any

from django_tasks import task

from dbops import runner
from dbops.exceptions import DbopsError
from dbops.models import Operation


@task()
def run_operation(operation_id: str) -> None:
    """Run a recorded operation; its row keeps the outcome, so a failure is no failed task."""
    heard = None
    try:
        heard = runner.run(Operation.objects.get(pk=operation_id)).late_signal
    except DbopsError:
        return
    except KeyboardInterrupt:
        heard = signal.SIGTERM
    if heard is not None:  # the worker it was meant for still has to hear it
        os.kill(os.getpid(), heard)


def submit_and_enqueue(kind: str, **asked: Any) -> Operation:
    """:func:`dbops.runner.submit` for whichever worker is free. Raises PolicyError."""
    operation, _ = runner.submit(
        kind, enqueue=lambda queued: run_operation.enqueue(queued.pk), **asked
    )
    return operation
