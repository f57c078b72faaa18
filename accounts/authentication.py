"""Who calls the API."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token

from accounts.history import actor_of
from accounts.models import User
from accounts.sessions import touch
from accounts.tokens import SessionAccessToken, read_token
from skinspire.acting import acting, become


class ActingJWTAuthentication(JWTAuthentication):
    """An access token whose session lives; its owner is named to the database as a browser's user
    is."""

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        header = self.get_header(request)
        raw = self.get_raw_token(header) if header is not None else None
        if raw is None:
            return None
        token, session = read_token(SessionAccessToken, raw.decode("latin-1"))
        token.session = session  # type: ignore[attr-defined]
        user: User = session.user
        if acting() is not None:  # in a request, which ends it
            become(actor_of(user))
        touch(session, request)
        return user, token
