"""People who sign in, their sessions, and what happened to their accounts. They live in the active
environment's own database, where triggers (``accounts/sql``) keep the rules for every writer."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.functions import RandomUUID
from django.db import connection, models, transaction
from django.db.models.functions import Lower, Now
from django.utils import timezone

_KEPT_BY_THE_DATABASE = frozenset({"failed_sign_ins", "locked_until", "created_at", "updated_at"})


class User(AbstractUser):
    """An account. ``save()`` leaves the columns alone that the database keeps: an object read
    before a failed sign-in would put the count back."""

    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    failed_sign_ins = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    """Since the last success, or since the last lock ended."""
    locked_until = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(AbstractUser.Meta):
        verbose_name = "user"
        constraints = [
            models.UniqueConstraint(
                Lower("email"), condition=~models.Q(email=""), name="accounts_user_email_unique"
            )
        ]

    @property
    def is_locked(self) -> bool:
        return self.locked_until is not None and self.locked_until > timezone.now()

    def check_password(self, raw_password: str | None) -> bool:
        """As Django's. A hash renewed on the way is no change of the password, which would end
        the account's sessions."""

        def renew(password: str) -> None:
            self.set_password(password)
            self._password = None
            self.hash_renewed = True
            with keep_sessions("all"):
                self.save(update_fields=["password"])
            self.hash_renewed = False

        return check_password(raw_password, self.password, renew)

    def save(self, *args: Any, **kwargs: Any) -> None:
        chosen = args or kwargs.get("update_fields") is not None or kwargs.get("force_insert")
        elsewhere = kwargs.get("using") not in (None, self._state.db)
        if not (self._state.adding or chosen or elsewhere):
            left_alone = _KEPT_BY_THE_DATABASE | self.get_deferred_fields()
            kwargs["update_fields"] = [
                field.attname
                for field in self._meta.concrete_fields
                if not field.primary_key and field.attname not in left_alone
            ]
        super().save(*args, **kwargs)


@contextmanager
def keep_sessions(which: str) -> Iterator[None]:
    """A transaction in which a changed password leaves sessions open.

    Args:
        which: the id of one, "all", or "" for none.
    """
    with transaction.atomic():
        _tell_what_stays(which)
        yield
        _tell_what_stays("")


def _tell_what_stays(which: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('skinspire.keep_session', %s, true)", [which])


class Door(models.TextChoices):
    """Where somebody comes in."""

    BROWSER = "browser", "browser"
    API = "api", "API"


class SessionQuerySet(models.QuerySet["Session"]):
    def active(self) -> SessionQuerySet:
        """Those that let somebody in at this moment, by the database's clock."""
        return self.filter(ended_at=None, expires_at__gt=Now(), user__is_active=True)


class Session(models.Model):
    """Who is in, since when, from where: one row for each browser or program signed in."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_default=RandomUUID())
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sessions")
    door = models.CharField(max_length=10, choices=Door.choices, default=Door.BROWSER,
                            db_default=Door.BROWSER)  # fmt: skip
    created_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=20, blank=True, db_default="")
    """Of the database: limit, expired, disabled; the doors have their own."""
    address = models.GenericIPAddressField(null=True, blank=True)
    device = models.CharField(max_length=300, blank=True, db_default="")
    """What the client says of itself."""
    key_hash = models.CharField(max_length=64, null=True, unique=True)
    """SHA-256 of what the client holds, in hexadecimal digits; never the key itself. Of the API:
    of the refresh token's ``jti``."""
    previous_hash = models.CharField(max_length=64, blank=True, db_default="")
    """The same of what the client held before, for requests that were under way."""
    rotated_at = models.DateTimeField(null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["user", "created_at"],
                condition=models.Q(ended_at=None),
                name="accounts_session_open",
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ended_at=None, end_reason="")
                | (models.Q(ended_at__isnull=False) & ~models.Q(end_reason="")),
                name="accounts_session_end_has_a_reason",
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} by {self.get_door_display()} since {self.created_at:%c}"


class AccountEvent(models.Model):
    """One thing that happened to an account. Rows are only added, and outlive the account."""

    class Event(models.TextChoices):
        SIGNED_IN = "signed_in", "signed in"
        SIGN_IN_FAILED = "sign_in_failed", "sign-in failed"
        SIGNED_OUT = "signed_out", "signed out"
        LOCKED = "locked", "locked"
        SESSION_ENDED = "session_ended", "session ended"
        TOKEN_REFRESHED = "token_refreshed", "token refreshed"
        TOKEN_REPLAYED = "token_replayed", "token used again"
        UNLOCKED = "unlocked", "unlocked"
        ACCOUNT_CREATED = "account_created", "account created"
        ACCOUNT_CHANGED = "account_changed", "account changed"
        ACCOUNT_DELETED = "account_deleted", "account deleted"
        PASSWORD_CHANGED = "password_changed", "password changed"
        ROLES_CHANGED = "roles_changed", "roles changed"
        PERMISSIONS_CHANGED = "permissions_changed", "permissions changed"
        INVITED = "invited", "invited"
        REGISTERED = "registered", "registered"
        RESET_REQUESTED = "reset_requested", "link for a new password asked for"
        SECOND_FACTOR_SET = "second_factor_set", "second factor set up"
        SECOND_FACTOR_FAILED = "second_factor_failed", "second factor failed"
        SECOND_FACTOR_REMOVED = "second_factor_removed", "second factor removed"
        RECOVERY_CODES_MADE = "recovery_codes_made", "recovery codes made"

    class Outcome(models.TextChoices):
        DONE = "done", "done"
        REFUSED = "refused", "refused"

    at = models.DateTimeField(db_default=Now())
    event = models.CharField(max_length=40)
    """A word of :class:`Event`; not choices, of which every new one would be a migration."""
    outcome = models.CharField(max_length=10, choices=Outcome.choices, db_default="")
    user = models.ForeignKey(
        User, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="events"
    )
    username = models.CharField(max_length=150, blank=True, db_default="")
    """Of an account that exists: people type passwords where names belong."""
    door = models.CharField(max_length=10, blank=True, db_default="", choices=Door.choices)
    address = models.GenericIPAddressField(null=True, blank=True)
    device = models.CharField(max_length=300, blank=True, db_default="")
    session = models.UUIDField(null=True, blank=True)
    detail = models.CharField(max_length=200, blank=True, db_default="")
    """Which, or why; never a secret."""
    created_by = models.CharField(max_length=150, null=True, blank=True, editable=False)
    """Who acted, as the trigger for acting users has it."""

    class Meta:
        verbose_name = "account event"
        indexes = [models.Index(fields=["user", "-at"], name="accounts_event_of_user")]

    def __str__(self) -> str:
        words = dict(self.Event.choices)
        return f"{self.username} {words.get(self.event, self.event)}"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> InvitationQuerySet:
        """Those that still let somebody register, by the database's clock."""
        return self.filter(used_at=None, expires_at__gt=Now())


class Invitation(models.Model):
    """Leave to register, once. The link bears this row's key, signed."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField("e-mail address")
    roles = models.ManyToManyField("auth.Group", blank=True)
    """What the account will be; whoever registers has no say in it."""
    invited_by = models.CharField(max_length=150, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(editable=False)
    used_at = models.DateTimeField(null=True, editable=False)
    account = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, editable=False)

    objects = InvitationQuerySet.as_manager()

    def __str__(self) -> str:
        return self.email


class RecoveryCode(models.Model):
    """Opens once in place of a code of the authenticator."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    code_hash = models.CharField(max_length=64)
    """SHA-256 of the account's key and the code."""
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "code_hash"], name="accounts_recovery_code_once"
            )
        ]


class RequestCount(models.Model):
    """How many requests came from somewhere since its minute began."""

    key = models.CharField(max_length=64, primary_key=True)
    """SHA-256 of where from and what for."""
    count = models.PositiveIntegerField()
    ends_at = models.DateTimeField()
