"""Mail to people: links by which they register and choose a new password."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connections
from django.utils import timezone

from accounts.history import record
from accounts.models import AccountEvent, Door, User

_LINKS_AN_HOUR = 3
_MOST_WAIT = 50
_waiting, _turn = threading.BoundedSemaphore(_MOST_WAIT), threading.Lock()
_DUMMY = "django.core.mail.backends.dummy.EmailBackend"
logger = logging.getLogger("accounts.mails")


def can_send() -> bool:
    """False in production where nobody has said by which server."""
    return bool(settings.EMAIL_BACKEND != _DUMMY)


def may_ask(user: User) -> bool:
    """Whether another link may go to this account now."""
    asked = user.events.filter(
        event=AccountEvent.Event.RESET_REQUESTED, at__gt=timezone.now() - timedelta(hours=1)
    )
    return asked.count() < _LINKS_AN_HOUR


def note(event: str, user: User, request: Any) -> None:
    """Write down that a link was asked for, never the link."""
    done = AccountEvent.Outcome.DONE
    record(event, user=user, door=Door.BROWSER, request=request, outcome=done)


def later(work: Callable[[], None]) -> None:
    """Find out who gets a mail, and send it, while the answer is on its way: how long that takes
    would tell who has an account. One at a time; where many wait, it is left undone."""
    if not _waiting.acquire(blocking=False):
        logger.error("A mail was not sent: too many wait")
        return
    context = copy_context()  # who acts
    threading.Thread(target=context.run, args=(_do, work), name="mail", daemon=False).start()


def _do(work: Callable[[], None]) -> None:
    try:
        with _turn:
            work()
    except Exception as error:  # whatever the database has
        logger.error("A mail was not sent: %s", type(error).__name__)
    finally:
        connections.close_all()
        _waiting.release()


def send_later(message: EmailMessage) -> threading.Thread:
    """Hand it to the mail server without making anybody wait. What fails is logged."""
    sender = threading.Thread(target=_send, args=(message,), name="mail", daemon=False)
    sender.start()
    return sender


def _send(message: EmailMessage) -> None:
    try:
        message.send()
    except Exception as error:  # whatever the server or the network has
        logger.error("A mail was not sent: %s", type(error).__name__)
