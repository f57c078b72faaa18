"""The one question both doors ask: whose name and password these are."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate

from accounts.models import User


class SignInRefused(Exception):
    """No account, another password, or not now: nobody is told which.

    Args:
        retry_after: seconds to wait where there were too many attempts.
    """

    def __init__(self, retry_after: int | None = None) -> None:
        super().__init__("That username and password do not open the door.")
        self.retry_after = retry_after


def authenticate_person(request: Any, username: str, password: str, door: str) -> User:
    """The account that these open.

    Raises:
        SignInRefused: they open none.
    """
    user = authenticate(request, username=username, password=password)
    if not isinstance(user, User):
        raise SignInRefused
    return user
