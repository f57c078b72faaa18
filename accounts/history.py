"""What happens to accounts, written down: rows of :class:`~accounts.models.AccountEvent`.

The row is what counts. Triggers in the database count failures by it, lock, and set back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rest_framework.request import Request

from accounts.addresses import client_address
from accounts.models import AccountEvent, Door, Session, User
from skinspire.acting import NOBODY, Actor

_at_work: ContextVar[Any] = ContextVar("at_work", default=None)
_LONGEST_DEVICE, _LONGEST_DETAIL = 300, 200


@contextmanager
def at_work(request: Any) -> Iterator[None]:
    """The request that whatever is written down meanwhile comes from."""
    token = _at_work.set(request)
    try:
        yield
    finally:
        _at_work.reset(token)


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
    using: str | None = None,
) -> AccountEvent:
    """Add to the history.

    Args:
        event: a word of :class:`AccountEvent.Event`.
        user: None where no account has the name that was typed, which is not kept.
        username: of an account that exists, where ``user`` is not at hand.
        door: "" where the request tells it.
        request: None where there is none at hand; the one at work is taken then, if any is.
        detail: which, or why, in few words; never a secret.
        using: the connection the account was changed by; None for the default one.
    """
    where = where_from(request if request is not None else _at_work.get())
    return AccountEvent.objects.using(using).create(
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
        "door": Door.API if _is_of_the_api(request) else Door.BROWSER,
        "address": client_address(request) or None,
        "device": request.META.get("HTTP_USER_AGENT", "").replace("\0", "")[:_LONGEST_DEVICE],
    }


def _is_of_the_api(request: Any) -> bool:
    return isinstance(request, Request) or request.path_info.startswith("/api/")
