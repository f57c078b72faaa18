"""What happens to accounts, written down: rows of :class:`~accounts.models.AccountEvent`.

The row is what counts. Triggers in the database count failures by it, lock, and set back.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from rest_framework.request import Request

from accounts.models import AccountEvent, Door, Session, User
from skinspire.acting import NOBODY, Actor, acting, become

_LONGEST_DEVICE, _LONGEST_DETAIL = 300, 200


def actor_of(user: Any) -> Actor:
    """Who acts, where ``user`` does; nobody where he has not signed in."""
    return Actor(user.get_username(), str(user.pk)) if user.is_authenticated else NOBODY


def record(
    event: str,
    *,
    user: User | None = None,
    username: str = "",
    door: str = "",
    request: Any = None,
    outcome: str = "",
    session: Session | None = None,
    detail: str = "",
) -> AccountEvent:
    """Add to the history.

    Args:
        event: a word of :class:`AccountEvent.Event`.
        user: None where no account has the name that was typed, which is not kept.
        username: of an account that exists, where ``user`` is not at hand.
        door: "" where the request tells it.
        request: None where there is none, as in a command.
        detail: which, or why, in few words; never a secret.
    """
    where = where_from(request)
    return AccountEvent.objects.create(
        event=event,
        outcome=outcome,
        user=user,
        username=user.get_username() if user else username,
        session=session.pk if session else None,
        detail=detail[:_LONGEST_DETAIL],
        **(where | {"door": door} if door else where),
    )


def where_from(request: Any) -> dict[str, Any]:
    """Door, address and device of a request; {} where there is none."""
    if request is None:
        return {}
    return {
        "door": Door.API if isinstance(request, Request) else Door.BROWSER,
        "address": _address(request.META.get("REMOTE_ADDR", "")),
        "device": request.META.get("HTTP_USER_AGENT", "").replace("\0", "")[:_LONGEST_DEVICE],
    }


def _address(text: str) -> str | None:
    """None for what is no address, as behind a socket of the file system."""
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _note(event: str, outcome: str, user: User | None, request: Any) -> None:
    record(event, user=user, request=request, outcome=outcome)


def record_sign_in(request: Any, user: User, **_: Any) -> None:
    """Whoever signs in acts for the rest of the request."""
    if acting() == NOBODY:
        become(actor_of(user))
    _note(AccountEvent.Event.SIGNED_IN, AccountEvent.Outcome.DONE, user, request)


@receiver(user_login_failed)
def record_failed_sign_in(credentials: dict[str, Any], request: Any = None, **_: Any) -> None:
    name = str(credentials.get(User.USERNAME_FIELD) or "")
    user = User.objects.filter(username=name).first() if name and "\0" not in name else None
    _note(AccountEvent.Event.SIGN_IN_FAILED, AccountEvent.Outcome.REFUSED, user, request)
