"""Whose password opens."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from accounts.models import User


class LockingBackend(ModelBackend):
    """Django's own, for accounts that are not locked. Sessions that are open stay so: whoever
    guesses at a name must not throw its owner out."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:  # type: ignore[override]
        user = super().authenticate(request, **credentials)
        # Looked at last, so that a locked account costs a guesser the same time as any other.
        return None if user is None or user.is_locked else user
