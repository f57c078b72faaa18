"""The only way to execute an operation: policy → lock → journal → operation → outcome → unlock.

The command calls :func:`run` inline, the worker calls it from a task: the same callable in both,
and it raises in both.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
from django.db import Error as DatabaseLayerError
from django.db import IntegrityError, transaction
from django.utils import timezone

from dbops import journal, policy
from dbops.exceptions import (
    LockedError,
    OperationCancelled,
    PolicyError,
    UnforeseenError,
    as_dbops_error,
)
from dbops.kept import kept_by_a_failed
from dbops.kinds import KINDS
from dbops.kinds.kind import KindOfOperation, Wanted
from dbops.models import Operation
from dbops.operations.context import Listener, OperationContext
from dbops.postgres.connection import Connection, fetch_value
from dbops.postgres.locks import database_lock
from dbops.watch import Watch, signals_cancel
from skinspire.acting import Actor, acting_as
from skinspire.router import CONTROL

logger = logging.getLogger("dbops.runner")
_LOOK_AGAIN_SECONDS = 0.2


@dataclass(frozen=True)
class Outcome:
    """A finished operation and what it returned, JSON-ready."""

    operation: Operation
    result: Mapping[str, Any]
    late_signal: int | None = None
    """A signal that came when the operation could no longer be stopped."""


def submit(
    kind: str,
    *,
    source: str = "",
    target: str = "",
    actor: str,
    door: str = "cli",
    options: Mapping[str, Any] | None = None,
    confirm: str = "",
    request_key: str | None = None,
    enqueue: Callable[[Operation], object] | None = None,
) -> tuple[Operation, bool]:
    """Record what is asked for, if the policy allows it.

    Args:
        enqueue: hands the operation to a queue in ``control``; row and task are written together,
            so that no operation waits for a task nobody wrote.

    Returns:
        The operation, and False where ``request_key`` was seen before and this is the earlier one.

    Raises:
        PolicyError: refused; the refusal is journalled.
    """
    operation = Operation(
        kind=kind, source=source, target=target, actor=actor, door=door,
        options=dict(options or {}), request_key=request_key,
    )  # fmt: skip
    _check_policy(operation, confirm)
    try:
        with transaction.atomic(using=CONTROL):
            operation.save(using=CONTROL, force_insert=True)
            if enqueue:
                enqueue(operation)
    except IntegrityError:
        if request_key is None:
            raise
        return Operation.objects.get(request_key=request_key), False
    _journal("requested", operation, door=door)
    return operation, True


def look_ahead(
    kind: str,
    *,
    source: str = "",
    target: str = "",
    actor: str,
    options: Mapping[str, Any] | None = None,
) -> None:
    """What would stop the operation however it is confirmed: told before anybody is asked.

    Raises:
        DbopsError: it would be refused. Refusals by the policy are journalled.
    """
    operation = Operation(
        kind=kind, source=source, target=target, actor=actor, options=dict(options or {})
    )
    _check_policy(operation, confirm=target)
    KINDS[kind].look(operation)


def _check_policy(operation: Operation, confirm: str) -> None:
    try:
        policy.check_policy(operation, confirm=confirm)
    except PolicyError as error:
        journal.record(
            "refused", actor=operation.actor, kind=operation.kind, source=operation.source,
            target=operation.target, reason=str(error),
        )  # fmt: skip
        raise


def run(operation: Operation, listener: Listener | None = None) -> Outcome:
    """Execute a submitted operation in this thread.

    Raises:
        DbopsError: it failed; the row and the journal say why, and the target is as it was.
    """
    if not _claim(operation):
        raise OperationCancelled(f"Operation {operation.id} is {operation.status}, not queued.")
    kind = KINDS[operation.kind]
    watch = Watch(operation, listener)
    with signals_cancel(watch.context) as late:
        try:
            _journal("started", operation)
            kind.look(operation)
            with (
                acting_as(Actor(operation.actor)),  # to Django's connections, as to our own
                watch.watching(),
                _locks(kind, operation, watch.context),
            ):
                result = kind.execute(operation, watch.context)
                watch.context.committing = True  # it is done; what remains is to tell
        except BaseException as error:
            swapped = watch.context.committing and kept_by_a_failed(operation)
            if watch.context.committing and not swapped and operation.result.get("saved_as"):
                operation.result["outcome"] = "unknown"  # it may be committed where it stands
            watch.context.committing = True
            _conclude_failure(operation, error, swapped or "")
            raise
        _conclude_success(kind, operation, result)
    return Outcome(operation, result, late[0] if late else None)


def _claim(operation: Operation) -> bool:
    """Take a queued operation; False where somebody else did or it was cancelled meanwhile."""
    me = psutil.Process()
    now = timezone.now()
    taken = Operation.objects.filter(pk=operation.pk, status=Operation.Status.QUEUED).update(
        status=Operation.Status.RUNNING, started_at=now, heartbeat_at=now,
        host=socket.gethostname(), pid=me.pid, pid_started=me.create_time(),
        attempt=operation.attempt + 1,
    )  # fmt: skip
    operation.refresh_from_db()
    return bool(taken)


@contextmanager
def _locks(
    kind: KindOfOperation, operation: Operation, context: OperationContext
) -> Iterator[None]:
    """The advisory locks on every database concerned, always in the same order."""
    held: list[Connection] = []
    # The locks are their sessions': whoever lost one must not go on to the swap.
    context.confirm_locks = lambda: [fetch_value(it, "SELECT true") for it in held]
    wanted = sorted(kind.locks(operation), key=lambda each: each.environment)
    with ExitStack() as stack:
        for each in wanted:
            lock = awaited_lock(each, operation.id, kind.patience, context)
            held.append(stack.enter_context(lock))
        yield


@contextmanager
def awaited_lock(
    wanted: Wanted, holder: str, patience: float, context: OperationContext
) -> Iterator[Connection]:
    """Hold a lock, and wait for whoever has it; for whom is told.

    Args:
        holder: who others hear has it: the operation's id, or words.
        patience: seconds.

    Raises:
        LockedError: somebody else still has it.
    """
    deadline = time.monotonic() + patience
    with ExitStack() as stack:
        told = ""
        while True:
            lock = database_lock(wanted.database, operation=holder, exclusive=wanted.exclusive)
            try:
                connection = stack.enter_context(lock)
                break
            except LockedError as error:
                sentence = _holder_sentence(wanted.environment, str(error))
                if time.monotonic() >= deadline:
                    raise LockedError(
                        sentence, hint="Wait for it, or see it: python manage.py operations list"
                    ) from error
            if sentence != told:
                context.log(f"Waiting: {sentence}")
                told = sentence
            context.check_cancelled()
            time.sleep(_LOOK_AGAIN_SECONDS)
        yield connection


def _holder_sentence(environment: str, holder: str) -> str:
    other = Operation.objects.filter(pk__in=holder.split(", ")).first()
    if other is None or other.started_at is None:
        return f"{environment} is held by {holder if ' ' in holder else f'operation {holder}'}."
    since = other.started_at.isoformat(timespec="seconds")
    return (
        f"{environment} is held by {other.actor} ({other.get_kind_display().lower()} "
        f"{other.route}, operation {other.id}) since {since}."
    )


def _conclude_success(
    kind: KindOfOperation, operation: Operation, result: Mapping[str, Any]
) -> None:
    """Record it. The deed is done: a record that fails is told and must not look like failure."""
    try:
        kind.keep(operation, result)
        _conclude(operation, Operation.Status.SUCCEEDED, result=dict(result))
    except (DatabaseLayerError, OSError) as error:
        operation.status = Operation.Status.SUCCEEDED
        logger.error("Operation %s succeeded but could not be recorded: %s", operation.id, error)


def _conclude_failure(operation: Operation, error: BaseException, kept: str) -> None:
    """``kept``: what the operation had replaced already when it failed."""
    told = as_dbops_error(error)
    sentence = f"{told} The target was replaced before; {kept} is kept." if kept else str(told)
    cancelled = isinstance(told, OperationCancelled)
    status = Operation.Status.CANCELLED if cancelled else Operation.Status.FAILED
    if isinstance(told, UnforeseenError) and operation.door != "cli":  # a command has --traceback
        logger.error("Operation %s", operation.id, exc_info=error)
    try:
        _conclude(
            operation, status, error_code=told.code, error=sentence, hint=told.hint,
            # What was kept before it began, and of which it tells nothing itself, stays told.
            result={**operation.result, **(told.result or {})},
        )  # fmt: skip
    except (DatabaseLayerError, OSError) as unrecorded:
        logger.error("Operation %s could not be recorded: %s", operation.id, unrecorded)


def _conclude(operation: Operation, status: str, **fields: Any) -> None:
    operation.status = status
    operation.finished_at = timezone.now()
    for name, value in fields.items():
        setattr(operation, name, value)
    operation.save(using=CONTROL, update_fields=["status", "finished_at", *fields])
    _journal(status, operation, error=operation.error, result=operation.result)


def _journal(event: str, operation: Operation, **details: Any) -> None:
    journal.record(
        event, actor=operation.actor, operation=operation.id, kind=operation.kind,
        source=operation.source, target=operation.target, **details,
    )  # fmt: skip


def request_cancel(operation: Operation, *, actor: str) -> Operation:
    """Ask an operation to stop. A queued one is cancelled at once, a running one when it looks."""
    journal.record("cancel_requested", actor=actor, operation=operation.id)
    Operation.objects.filter(pk=operation.pk, status__in=Operation.ACTIVE).update(
        cancel_requested_by=actor or "unknown"
    )
    cancelled = Operation.objects.filter(pk=operation.pk, status=Operation.Status.QUEUED).update(
        status=Operation.Status.CANCELLED, finished_at=timezone.now(), error_code="cancelled",
        error="Cancelled before it began.",
    )  # fmt: skip
    operation.refresh_from_db()
    if cancelled:
        _journal("cancelled", operation)
    return operation


def wait_for_end(operation: Operation, seconds: float) -> Operation:
    """Look at the row until it is no longer active or ``seconds`` have passed."""
    deadline = time.monotonic() + seconds
    while operation.is_active and time.monotonic() < deadline:
        time.sleep(0.2)
        operation.refresh_from_db()
    return operation
