"""Operations that come again and again: a row says what and when, whoever ticks runs what is due.

Times are UTC, whatever ``TIME_ZONE`` says: no hour of the night is skipped or comes twice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from croniter import CroniterBadDateError, CroniterError, croniter
from django.db import transaction
from django.utils import timezone

from dbops import journal, policy, runner
from dbops.catalogue import latest_backup
from dbops.exceptions import (
    DbopsError,
    LockedError,
    OperationCancelled,
    PolicyError,
    SameDatabaseError,
    ScheduleNotFoundError,
    UsageError,
    as_dbops_error,
)
from dbops.models import Operation, Schedule
from dbops.operations.context import Listener
from dbops.sweep import mark_lost_operations
from skinspire.router import CONTROL

_FIELDS = 5
_LONGEST = 100
_BY_CHANCE = re.compile(r"\b[hr]\b", re.IGNORECASE)
"""croniter's fields that stand for a number of its own choice."""


@dataclass(frozen=True)
class ScheduledRun:
    """What became of a schedule that was due."""

    schedule: Schedule
    operation: Operation | None
    """None where it came to none: refused, or nothing there to be verified."""
    error: DbopsError | None


def next_time(cron: str, after: datetime) -> datetime:
    """The first moment after ``after`` that ``cron`` means, in UTC.

    Raises:
        UsageError: not the five fields of crontab(5), or a day that never comes.
    """
    shown = repr(cron if len(cron) <= _LONGEST else f"{cron[:_LONGEST]}…")
    plain = cron.isascii() and len(cron) <= _LONGEST and not _BY_CHANCE.search(cron)
    try:
        if not plain or len(cron.split()) != _FIELDS:
            raise CroniterError
        moment: datetime = croniter(cron, after.astimezone(UTC)).get_next(datetime)
    except CroniterBadDateError as error:
        raise UsageError(f"{shown} never comes: there is no such day.") from error
    except CroniterError as error:
        raise UsageError(
            f"{shown} is not a cron expression of minute, hour, day, month and day of week.",
            hint='Every night at three, in UTC: "0 3 * * *"',
        ) from error
    return moment


def add_schedule(
    kind: str,
    cron: str,
    *,
    source: str = "",
    target: str = "",
    actor: str,
    options: Mapping[str, Any] | None = None,
    confirm: str = "",
) -> Schedule:
    """Plan an operation; what is given is what :func:`dbops.runner.submit` takes.

    A verification names no backup: each time it is the environment's latest.

    Args:
        confirm: the environment name the user typed; remembered for every run.

    Raises:
        UsageError: the cron expression. SameDatabaseError, PolicyError: it would be refused, which
            is journalled.
    """
    schedule = Schedule(
        kind=kind, cron=" ".join(cron.split()), source=source, target=target,
        options=dict(options or {}), confirmed=confirm if confirm == target else "",
        created_by=actor[:150], next_due_at=next_time(cron, timezone.now()),
    )  # fmt: skip
    planned = {"kind": kind, "source": source, "target": target, "cron": schedule.cron}
    try:
        _check(schedule)
    except PolicyError as error:
        journal.record("refused", actor=actor, reason=str(error), **planned)
        raise
    with transaction.atomic(using=CONTROL):  # no schedule of which nobody knows whose it is
        schedule.save(using=CONTROL, force_insert=True)
        journal.record(
            "scheduled", actor=actor, schedule=schedule.pk, options=schedule.options,
            confirmed=schedule.confirmed, **planned,
        )  # fmt: skip
    return schedule


def _check(schedule: Schedule) -> None:
    if schedule.source and schedule.source == schedule.target:
        raise SameDatabaseError(f"{schedule.source} cannot be copied onto itself.")
    policy.check_policy(
        Operation(
            kind=schedule.kind, source=schedule.source, target=schedule.target,
            options=schedule.options,
        ),
        confirm=schedule.confirmed,
    )  # fmt: skip


def remove_schedule(schedule_id: int, *, actor: str) -> Schedule:
    """Forget a schedule; an operation it has started goes on. Raises ScheduleNotFoundError."""
    with transaction.atomic(using=CONTROL):
        found = Schedule.objects.using(CONTROL).filter(pk=schedule_id)
        schedule = found.first()
        if schedule is None or not found.delete()[0]:  # another may have been as quick
            raise ScheduleNotFoundError(f"There is no schedule {schedule_id}.")
        journal.record(
            "unscheduled", actor=actor, schedule=schedule_id, kind=schedule.kind,
            source=schedule.source, target=schedule.target, cron=schedule.cron,
        )  # fmt: skip
    return schedule


def due(now: datetime) -> list[Schedule]:
    """Those whose time has come, the longest waiting first."""
    return list(Schedule.objects.filter(next_due_at__lte=now).order_by("next_due_at", "pk"))


def run_due(
    clock: Callable[[], datetime] = timezone.now, listener: Listener | None = None
) -> list[ScheduledRun]:
    """Run, here and one after the other, what is due and nobody else has taken.

    Each is run once, however many of its times have passed. One that fails does not stop the
    others; Ctrl-C, TERM and HUP do.

    Args:
        clock: asked again before each, as the one before may have taken hours.
    """
    runs = []
    for schedule in due(clock()):
        if _claim(schedule, clock()):
            run, late_signal = _run(schedule, listener)
            runs.append(run)
            if late_signal is not None:  # too late for this one, but not for the next
                os.kill(os.getpid(), late_signal)
    return runs


def _claim(schedule: Schedule, now: datetime) -> bool:
    """Move its time on before it is run; False where another process did.

    Whoever dies from here on has not brought it back for the next minute.
    """
    taken = Schedule.objects.filter(pk=schedule.pk, next_due_at=schedule.next_due_at).update(
        next_due_at=next_time(schedule.cron, now), last_run_at=now,
        last_error="Its process died before it began.",
    )  # fmt: skip
    return bool(taken)


def _run(schedule: Schedule, listener: Listener | None) -> tuple[ScheduledRun, int | None]:
    """What became of it, and the signal that came too late to stop it."""
    operation = failed = late = None
    try:
        operation = _submit(schedule)
        late = runner.run(operation, listener).late_signal
    except Exception as error:  # whatever it is, the others still have their turn
        if _stops_all(error, operation):
            raise
        failed = as_dbops_error(error)
        if operation is None:
            Schedule.objects.filter(pk=schedule.pk).update(last_error=str(failed))
    # Removed meanwhile, it is told of as it was.
    fresh = Schedule.objects.select_related("last_operation").filter(pk=schedule.pk).first()
    return ScheduledRun(fresh or schedule, operation, failed), late


def _submit(schedule: Schedule) -> Operation:
    _require_ended(schedule)
    options = dict(schedule.options)
    if schedule.kind == Operation.Kind.VERIFY:
        options["name"] = latest_backup(schedule.target)
    own = Schedule.objects.filter(pk=schedule.pk)
    operation, _ = runner.submit(
        schedule.kind, source=schedule.source, target=schedule.target, options=options,
        actor=f"schedule {schedule.pk} (added by {schedule.created_by})"[:150],
        confirm=schedule.confirmed,
        enqueue=lambda queued: own.update(last_operation=queued, last_error=""),
    )  # fmt: skip
    return operation


def _require_ended(schedule: Schedule) -> None:
    """Raise LockedError where the last run still goes on: slow backups must not pile up."""
    last = schedule.last_operation
    if last is not None and last.is_active:
        mark_lost_operations(actor=f"schedule {schedule.pk}")
        last.refresh_from_db()
        if last.is_active:
            raise LockedError(
                f"Its last run still goes on (operation {last.pk}).",
                hint=f"python manage.py operations show {last.pk}",
            )


def _stops_all(error: Exception, operation: Operation | None) -> bool:
    """True for a signal, which an operation may have turned into a cancellation of its own; one
    that was asked for from elsewhere means that operation alone."""
    if operation is None or not isinstance(error, OperationCancelled):
        return False
    operation.refresh_from_db()
    return not operation.cancel_requested_by
