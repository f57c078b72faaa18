"""What happens to accounts, written down: rows of :class:`~accounts.models.AccountEvent`.

The row is what counts. Triggers in the database count failures by it, lock, and set back.
"""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from accounts.addresses import client_address
from accounts.models import AccountEvent, Door, Session, User
from skinspire.acting import NOBODY, Actor

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
        "address": client_address(request) or None,
        "device": request.META.get("HTTP_USER_AGENT", "").replace("\0", "")[:_LONGEST_DEVICE],
    }
