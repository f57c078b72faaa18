"""The browser's door: a session row for each browser that signs in, named by Django's own session.

Django's session holds ``sid`` and what only this browser needs to know; whether it still lets
anybody in is the row's affair, asked with every request.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import BACKEND_SESSION_KEY, login
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from accounts.history import actor_of
from accounts.models import Door, Session, User
from accounts.sessions import end_session, live_session, open_session, touch
from skinspire.acting import NOBODY, acting, become

SID = "sid"
REMEMBERED = "remembered"
PROVEN_AT = "proven_at"
"""When who sits here last proved who he is, in seconds since the epoch."""
SECOND_FACTOR = "second_factor"
"""Whether a second factor was part of that."""

_WHY = {
    "ended_by_user": "This session was ended from another of your sessions.",
    "ended_by_admin": "This session was ended by an administrator.",
    "password_changed": "The password of this account was changed. Sign in with the new one.",
    "idle": "You were signed out because nothing was done for a while.",
    "limit": "You were signed out: this account signed in elsewhere more often than it may.",
    "expired": "You were signed out because this session had reached its longest time.",
    "disabled": "You were signed out: this account is disabled.",
}
_OTHERWISE = "You were signed out."


def sign_in(
    request: HttpRequest, user: User, *, remember: bool = False, second_factor: bool = False
) -> None:
    """Let this browser in. Its session gets a new key; what it held before stays only if it was the
    same person's.

    Args:
        remember: beyond closing the browser, for ``ACCOUNT_REMEMBER_DAYS``.

    Raises:
        SessionRefused: the database let none begin.
    """
    request.remember = remember  # type: ignore[attr-defined]
    request.second_factor = second_factor  # type: ignore[attr-defined]
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])


@receiver(user_logged_in)
def open_browser_session(request: Any, user: User, **_: Any) -> None:
    """Whoever Django lets in has a row, whichever code asked for it."""
    remember = getattr(request, "remember", False)
    lifetime = (
        timedelta(days=settings.ACCOUNT_REMEMBER_DAYS)
        if remember
        else timedelta(hours=settings.ACCOUNT_ABSOLUTE_HOURS)
    )
    if acting() == NOBODY:
        become(actor_of(user))  # for the rest of the request
    _leave_row(request)
    try:
        session = open_session(user, door=Door.BROWSER, request=request, lifetime=lifetime)
    except Exception:
        request.session.flush()  # Django has put the account in already
        raise
    request.session[SID] = str(session.pk)
    request.session[REMEMBERED] = remember
    request.session[SECOND_FACTOR] = getattr(request, "second_factor", False)
    prove(request)
    request.session.set_expiry(int(lifetime.total_seconds()) if remember else 0)


def _leave_row(request: Any) -> None:
    """End the row this browser had, where it signs in once more without having signed out."""
    row = _row_of(request)
    if row is not None:
        end_session(row, "signed_out", row.user, request)


def _row_of(request: Any) -> Session | None:
    sid = request.session.get(SID)
    return live_session(sid) if sid else None


def prove(request: Any) -> None:
    """Who sits here has just proved who he is."""
    request.session[PROVEN_AT] = int(time.time())


def is_fresh(request: HttpRequest) -> bool:
    """Whether that was recently enough for what destroys."""
    age = time.time() - request.session.get(PROVEN_AT, 0)
    return 0 <= age < settings.ACCOUNT_FRESH_MINUTES * 60


@receiver(user_logged_out)
def end_browser_session(request: Any, user: Any, **_: Any) -> None:
    """Django flushes its own session right after."""
    session = _row_of(request)
    if session is not None:
        end_session(session, "signed_out", session.user, request)


def check(request: HttpRequest) -> str:
    """Whether this browser's session still lets somebody in.

    Returns:
        "" where it does, or where nobody is signed in; else why it does not any more. The browser
        is signed out then.
    """
    if BACKEND_SESSION_KEY not in request.session:
        return ""
    session = _row_of(request)
    if session is not None and _is_idle(request, session):
        end_session(session, "idle", None, request)
        session = None
    if session is None or session.user != request.user:
        return _sign_out(request)
    request.account_session = session  # type: ignore[attr-defined]
    if _is_somebodys_doing(request):
        touch(session, request)
    return ""


def _is_idle(request: HttpRequest, session: Session) -> bool:
    """A browser that is to remember may lie idle: what destroys asks for a proof anyway."""
    longest = timedelta(minutes=settings.ACCOUNT_IDLE_MINUTES)
    unseen = timezone.now() - session.last_seen_at
    return bool(longest) and not request.session.get(REMEMBERED) and unseen >= longest


def _is_somebodys_doing(request: HttpRequest) -> bool:
    """False for what a page asks by itself, like an operation's progress every second: else a
    browser left alone would never be idle."""
    return request.headers.get("Sec-Fetch-Dest") != "empty"


def _sign_out(request: HttpRequest) -> str:
    sid = request.session.get(SID)
    row = Session.objects.filter(pk=sid).first() if sid else None
    why = _WHY.get(_reason(row), _OTHERWISE) if row else _OTHERWISE
    if row is not None:  # nothing is done to one that has ended
        end_session(row, "expired", None, request)
    request.session.flush()
    request.user = AnonymousUser()
    messages.warning(request, why)
    return why


def _reason(row: Session) -> str:
    if row.end_reason:
        return row.end_reason
    return "expired" if row.expires_at <= timezone.now() else ""
