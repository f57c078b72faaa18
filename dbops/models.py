"""What is recorded of operations and backups. All of it lives in ``control``."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from django.db import models
from django.utils import timezone

from skinspire.environment import ENVIRONMENTS


def permissions_of(*deeds: tuple[str, str]) -> list[Any]:
    """What a deed needs in every environment, and in one: ``restore``, ``restore_dev``."""
    return [
        *((codename, f"Can {what}") for codename, what in deeds),
        *((f"{codename}_{name}", f"Can {what} in {name}")
          for codename, what in deeds for name in ENVIRONMENTS),
    ]  # fmt: skip


def new_operation_id() -> str:
    """12 hexadecimal digits: short enough to be part of a database name."""
    return secrets.token_hex(6)


class Operation(models.Model):
    """One run of one operation, whoever asked for it and through whichever door."""

    class Status(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"
        INTERRUPTED = "interrupted"

    class Kind(models.TextChoices):
        BACKUP = "backup", "Back up"
        RESTORE = "restore", "Restore"
        COPY = "copy", "Copy"
        UNDO = "undo", "Undo"
        TRIGGERS = "triggers", "Apply triggers"
        INIT = "init", "Initialise"
        RESET = "reset", "Reset"
        DROP = "drop", "Drop all tables"
        MIGRATE = "migrate", "Migrate"
        ROLLBACK = "rollback", "Roll back migrations"
        MAINTAIN = "maintain", "Maintain"
        VERIFY = "verify", "Verify"
        PRUNE = "prune", "Prune"

    ACTIVE = (Status.QUEUED, Status.RUNNING)
    REPLACING = (Kind.RESTORE, Kind.COPY, Kind.UNDO, Kind.RESET, Kind.DROP)
    """Kinds that put another database in the target's place."""
    KEEPING = (*REPLACING, Kind.MIGRATE, Kind.ROLLBACK)
    """Kinds that may do so, and keep the one they replaced."""
    LEASE = timedelta(seconds=60)
    """Without a heartbeat for this long a running operation counts as lost."""

    id = models.CharField(primary_key=True, max_length=12, default=new_operation_id, editable=False)
    kind = models.CharField(max_length=20, choices=Kind)
    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED, db_index=True)
    source = models.CharField(max_length=10, blank=True)
    target = models.CharField(max_length=10, blank=True)
    actor = models.CharField(max_length=150)
    door = models.CharField(max_length=10, default="cli")
    options = models.JSONField(default=dict)
    request_key = models.CharField(max_length=64, unique=True, null=True, default=None)
    """Of the form or request that asked for it: the same one sent twice is one operation."""
    created_at = models.DateTimeField(default=timezone.now, db_index=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    host = models.CharField(max_length=255, blank=True)
    pid = models.IntegerField(null=True)
    pid_started = models.FloatField(null=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    cancel_requested_by = models.CharField(max_length=150, blank=True)
    step = models.CharField(max_length=60, blank=True)
    progress = models.PositiveSmallIntegerField(null=True)
    """Per cent of the present step."""
    result = models.JSONField(default=dict)
    error_code = models.CharField(max_length=40, blank=True)
    error = models.TextField(blank=True)
    hint = models.TextField(blank=True)

    class Meta:
        ordering = ["-created_at"]
        default_permissions = ("view",)
        permissions = permissions_of(
            ("back_up", "back up a database"),
            ("restore", "restore a database"),
            ("copy", "copy a database"),
            ("apply_triggers", "apply triggers"),
            ("cancel", "cancel an operation"),
            ("verify_backup", "verify a backup"),
            ("migrate", "migrate a database"),
            ("maintain", "maintain a database"),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.route} ({self.id})"

    @property
    def route(self) -> str:
        """``test → dev``, or the one environment concerned."""
        return " → ".join(name for name in (self.source, self.target) if name)

    @property
    def is_active(self) -> bool:
        return self.status in self.ACTIVE

    @property
    def seconds(self) -> float | None:
        """How long it ran."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round((self.finished_at - self.started_at).total_seconds(), 3)

    def to_json(self) -> dict[str, Any]:
        """The ``operation`` object of every ``--json`` answer."""
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "source": self.source or None,
            "target": self.target or None,
            "actor": self.actor,
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "seconds": self.seconds,
        }


class OperationLog(models.Model):
    """Steps and sentences of an operation, in order."""

    operation = models.ForeignKey(Operation, models.CASCADE, related_name="log_lines")
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=4, choices=[("step", "step"), ("log", "log")])
    text = models.TextField()

    class Meta:
        ordering = ["id"]
        default_permissions = ()


class Backup(models.Model):
    """The catalogue: one row per sealed backup. The manifest in the storage is the truth."""

    class Verification(models.TextChoices):
        CHECKSUM = "checksum", "read whole, signature and checksum right"
        FULL = "full", "restored aside and compared"
        RESTORED = "restored", "restored"

    name = models.CharField(primary_key=True, max_length=200)
    environment = models.CharField(max_length=10, db_index=True)
    created_at = models.DateTimeField(db_index=True)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    unmasked = models.CharField(max_length=10, blank=True)
    """The protected environment whose rows it holds as they are."""
    rows = models.BigIntegerField()
    tables = models.IntegerField()
    server_version = models.CharField(max_length=40)
    encrypted = models.BooleanField(default=False)
    partial = models.BooleanField(default=False)
    verified_at = models.DateTimeField(null=True)
    verified_how = models.CharField(max_length=10, blank=True, choices=Verification)
    pinned = models.BooleanField(default=False)
    actor = models.CharField(max_length=150)
    operation = models.CharField(max_length=12)

    @property
    def origin(self) -> str:
        """The environment whose rows these are."""
        return self.unmasked or self.environment

    def origin_for(self, target: str) -> str:
        """The environment whose rows would arrive in another one; itself where they come home."""
        return target if self.environment == target else self.origin

    class Meta:
        ordering = ["-created_at"]
        default_permissions = ("view",)
        permissions = permissions_of(
            ("pin_backup", "pin a backup"), ("download_backup", "download a backup")
        )

    def __str__(self) -> str:
        return self.name

    def to_json(self) -> dict[str, Any]:
        """One element of ``listbackups --json``."""
        return {
            "name": self.name,
            "environment": self.environment,
            "created_at": _iso(self.created_at),
            "size": self.size,
            "verified_at": _iso(self.verified_at),
            "verified_how": self.verified_how or None,
            "encrypted": self.encrypted,
            "pinned": self.pinned,
            "partial": self.partial,
            "signed": True,
        }


class Schedule(models.Model):
    """An operation that is wanted again and again: what :func:`dbops.runner.submit` is to be given,
    and when."""

    KINDS = (
        Operation.Kind.BACKUP, Operation.Kind.COPY, Operation.Kind.VERIFY, Operation.Kind.PRUNE,
    )  # fmt: skip

    kind = models.CharField(max_length=20, choices=[(kind.value, kind.label) for kind in KINDS])
    cron = models.CharField(max_length=100)
    """Five fields, in UTC."""
    source = models.CharField(max_length=10, blank=True)
    target = models.CharField(max_length=10, blank=True)
    options = models.JSONField(default=dict)
    confirmed = models.CharField(max_length=10, blank=True)
    """The protected environment whose name was typed when it was added."""
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)
    next_due_at = models.DateTimeField(db_index=True)
    last_run_at = models.DateTimeField(null=True)
    last_operation = models.ForeignKey(Operation, models.SET_NULL, null=True, related_name="+")
    last_error = models.TextField(blank=True)
    """Why the last run came to no operation; what became of an operation its own row tells."""

    class Meta:
        ordering = ["pk"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.where} ({self.cron})"

    @property
    def where(self) -> str:
        """The environments concerned, as :attr:`Operation.route` has them."""
        named = " → ".join(name for name in (self.source, self.target) if name)
        return named or self.options.get("environment") or "all"

    @property
    def last_status(self) -> str:
        """How the last run ended, or goes on; "" before the first."""
        if self.last_error:
            return Operation.Status.FAILED
        return self.last_operation.status if self.last_operation else ""

    def to_json(self) -> dict[str, Any]:
        """One element of ``schedule list --json``."""
        return {
            "id": self.pk,
            "kind": self.kind,
            "cron": self.cron,
            "source": self.source or None,
            "target": self.target or None,
            "options": self.options,
            "created_by": self.created_by,
            "created_at": _iso(self.created_at),
            "next_due_at": _iso(self.next_due_at),
            "last_run_at": _iso(self.last_run_at),
            "last_status": self.last_status or None,
            "last_operation": self.last_operation_id,
            "last_error": self.last_error or None,
        }


class JournalEntry(models.Model):
    """One line of the journal; each carries the hash of the one before it."""

    sequence = models.BigAutoField(primary_key=True)
    at = models.DateTimeField()
    event = models.CharField(max_length=40)
    operation = models.CharField(max_length=12, blank=True, db_index=True)
    actor = models.CharField(max_length=150)
    details = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64, unique=True)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["sequence"]
        default_permissions = ("view",)
        verbose_name_plural = "journal"

    def __str__(self) -> str:
        return f"{self.event} {self.operation}"


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment else None
