"""Stand-in."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate

from accounts.models import User


class SignInRefused(Exception):
    def __init__(self, retry_after: int | None = None) -> None:
        super().__init__("This name and password do not open. Both distinguish capitals.")
        self.retry_after = retry_after


def authenticate_person(request: Any, username: str, password: str, door: str) -> User:
    user = authenticate(request, username=username, password=password)
    if user is None:
        locked = User.objects.filter(username=username).first()
        raise SignInRefused(900 if locked and locked.is_locked else None)
    return user  # type: ignore[return-value]
