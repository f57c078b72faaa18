"""Whose password is right: the one way in, for the browser's door and the API's alike."""

from __future__ import annotations

import unicodedata
from typing import Any

from django.contrib.auth.hashers import make_password

from accounts.addresses import client_address
from accounts.history import record
from accounts.limits import Guess, TooManyGuesses, give_back, take_guess
from accounts.models import AccountEvent, User

REFUSED = "Name or password are not right, or this account may not sign in now."
_LONGEST_NAME = 150


class SignInRefused(Exception):
    """One sentence for every reason: it must not tell which names exist, or that a password was
    right."""

    def __init__(self, retry_after: int | None = None) -> None:
        super().__init__(REFUSED)
        self.retry_after = retry_after
        """Seconds after which to try again, where there were too many guesses; the password was not
        looked at then."""


def authenticate_person(request: Any, username: str, password: str, door: str) -> User:
    """The owner of this name and password. Failures are written down here, successes where the
    session begins.

    Args:
        request: Django's or the REST framework's; None for a command.

    Raises:
        SignInRefused: also where the account is absent, inactive or locked. With or without
            account, one hash was computed; none where there were too many guesses.
    """
    name = tidy_name(username)
    user = find_person(name)
    try:
        guess = take_guess(name, client_address(request) if request is not None else "", user)
    except TooManyGuesses as error:
        raise SignInRefused(error.retry_after) from error
    if not _is_right(user, password) or user is None:
        _refuse(user, "password" if user else "name", guess, door, request)
    elif not user.is_active or user.is_locked:
        _refuse(user, "locked" if user.is_active else "inactive", guess, door, request)
    else:
        give_back(guess)
        return user
    raise SignInRefused


def tidy_name(username: str) -> str:
    """As names are kept (NFKC), without the spaces that phones add."""
    return unicodedata.normalize("NFKC", username).strip()


def find_person(name: str) -> User | None:
    """The account of this very name; else the only one that differs in case alone."""
    if len(name) > _LONGEST_NAME or "\0" in name or not _is_unicode(name):
        return None
    alike = list(User.objects.filter(username__iexact=name)[:9])
    exact = [user for user in alike if user.username == name]
    found = exact or alike
    return found[0] if len(found) == 1 else None


def _is_right(user: User | None, password: str) -> bool:
    """Computes one hash in any case."""
    if not _is_unicode(password):
        user, password = None, ""
    if user is None:
        make_password(password)
        return False
    return user.check_password(password)


def _is_unicode(text: str) -> bool:
    """JSON can spell halves of characters, which nothing can store."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(user: User | None, why: str, guess: Guess, door: str, request: Any) -> None:
    events, outcomes = AccountEvent.Event, AccountEvent.Outcome
    where: dict[str, Any] = {"user": user, "door": door, "request": request}
    record(events.SIGN_IN_FAILED, outcome=outcomes.REFUSED, detail=why, **where)
    for scope in guess.reached:
        record(events.LOCKED, outcome=outcomes.DONE, detail=f"guesses of one {scope}", **where)
