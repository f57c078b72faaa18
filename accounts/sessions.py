"""Sessions of both doors: they begin, are looked at with every request, and end.

A row of :class:`~accounts.models.Session` is all that lets somebody in; browser cookies and tokens
only name one. The database ends rows by itself as well (``accounts/sql``): beyond the limit, past
their time, of an account that is disabled or locked by hand, and when a password changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

from django.contrib.auth.models import update_last_login
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts.history import record, where_from
from accounts.models import AccountEvent, Session, User, keep_sessions

_SEEN_EVERY = timedelta(minutes=1)


class SessionRefused(Exception):
    """No session begins for this account now."""


class AccountLocked(SessionRefused):
    """It is locked."""


class AccountInactive(SessionRefused):
    """It is disabled."""


class PasswordReplaced(SessionRefused):
    """The password that was right a moment ago is so no more."""


def open_session(
    user: User, *, door: str, request: Any, lifetime: timedelta, key_hash: str | None = None
) -> Session:
    """Begin one, for somebody whose password was right, and write the sign-in down.

    Args:
        lifetime: after which it is over, however busy.
        key_hash: SHA-256 of what the client holds; None where it holds no more than the id.

    Raises:
        AccountLocked, AccountInactive: the database let none begin; nothing was written.
        PasswordReplaced: by somebody else, while this one was looked at.
    """
    where = where_from(request)
    where.pop("door", None)
    try:
        with transaction.atomic():
            _require_same_password(user)
            session = Session.objects.create(
                user=user,
                door=door,
                key_hash=key_hash,
                expires_at=timezone.now() + lifetime,
                **where,
            )
            update_last_login(None, user)  # type: ignore[arg-type]
            record(
                AccountEvent.Event.SIGNED_IN,
                user=user,
                door=door,
                request=request,
                outcome=AccountEvent.Outcome.DONE,
                session=session,
            )
    except IntegrityError as error:
        raise _refusal(error) from error
    return session


def _require_same_password(user: User) -> None:
    """A changed password ends sessions that are there; this one would begin behind its back. The
    lock makes whoever changes it wait until the session is there to be ended."""
    rows = User.objects.select_for_update(no_key=True).filter(pk=user.pk)
    if rows.values_list("password", flat=True).first() != user.password:
        raise PasswordReplaced("The password was changed meanwhile.")


def _refusal(error: IntegrityError) -> Exception:
    sentence = str(error)
    if "is not active: no session" in sentence:
        return AccountInactive("The account is disabled.")
    return AccountLocked("The account is locked.") if "is locked: no session" in sentence else error


def live_session(sid: object) -> Session | None:
    """The session of this name with its user, where both let somebody in at this moment; one query.

    A lock by too many failures does not count: whoever guesses at a name must not throw its owner
    out. A lock by hand has ended the row.
    """
    try:
        key = uuid.UUID(str(sid))
    except ValueError:
        return None
    with connection.cursor() as cursor:
        cursor.execute(_live(), [key])
        row = cursor.fetchone()
    return None if row is None else _with_user(connection.alias, row)


_SESSION = [field.attname for field in Session._meta.concrete_fields]
_USER = [field.attname for field in User._meta.concrete_fields]


@cache
def _live() -> str:
    """``Session.objects.active()`` with its user, written out: every request asks it, and building
    it anew would take longer than the answer."""
    columns = [f's."{it}"' for it in _SESSION] + [f'u."{it}"' for it in _USER]
    return f"""
        SELECT {", ".join(columns)}
          FROM public.accounts_session s JOIN public.accounts_user u ON u.id = s.user_id
         WHERE s.id = %s AND s.ended_at IS NULL AND s.expires_at > statement_timestamp()
           AND u.is_active
    """


def _with_user(alias: str, row: tuple[Any, ...]) -> Session:
    session = Session.from_db(alias, _SESSION, row[: len(_SESSION)])
    session.user = User.from_db(alias, _USER, row[len(_SESSION) :])
    return session


def touch(session: Session, request: Any) -> None:
    """Seen now; written at most once a minute."""
    now = timezone.now()
    if now - session.last_seen_at >= _SEEN_EVERY:
        Session.objects.filter(pk=session.pk, last_seen_at__lt=now - _SEEN_EVERY).update(
            last_seen_at=now
        )
        session.last_seen_at = now


def end_session(session: Session, reason: str, by: User | None, request: Any = None) -> bool:
    """End one and write it down. False where it was over already."""
    with transaction.atomic():
        rows = Session.objects.filter(pk=session.pk, ended_at=None)
        if not rows.update(ended_at=Now(), end_reason=reason):
            return False
        # The database may have had a reason of its own: it was past its time.
        reason = Session.objects.values_list("end_reason", flat=True).get(pk=session.pk)
        _record_end(session, reason, by, request)
    return True


def end_sessions_of(
    user: User,
    reason: str,
    by: User | None,
    keep: uuid.UUID | str | None = None,
    request: Any = None,
) -> int:
    """End all that an account has, or all but the one whose id is ``keep``; how many there were."""
    rows = Session.objects.filter(user=user, ended_at=None).select_related("user")
    if keep is not None:
        rows = rows.exclude(pk=keep)
    return sum(end_session(session, reason, by, request) for session in rows.order_by("created_at"))


def _record_end(session: Session, reason: str, by: User | None, request: Any) -> None:
    event = AccountEvent.Event
    record(
        event.SIGNED_OUT if reason == "signed_out" else event.SESSION_ENDED,
        user=session.user,
        door=session.door,
        request=request,
        outcome=AccountEvent.Outcome.DONE,
        session=session,
        detail="" if reason == "signed_out" else _why(session, reason, by),
    )


def _why(session: Session, reason: str, by: User | None) -> str:
    return reason if by is None or by.pk == session.user_id else f"{reason} by {by.get_username()}"


@contextmanager
def keeping(session: Session | None) -> Iterator[None]:
    """Of the sessions that a changed password ends, leave this one: who changes the own password
    stays in. The block is one transaction."""
    with keep_sessions(str(session.pk) if session else ""):
        yield
