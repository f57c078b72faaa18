"""Who calls the API."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.tokens import Token

from accounts.history import actor_of, record_sign_in
from skinspire.acting import acting, become


class ActingJWTAuthentication(JWTAuthentication):
    """An access token; its owner is named to the database as a browser's user is."""

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        found: tuple[Any, Token] | None = super().authenticate(request)
        if found is not None and acting() is not None:  # in a request, which ends it
            become(actor_of(found[0]))
        return found


class RecordedTokenObtainSerializer(TokenObtainPairSerializer):
    """A pair of tokens for a password: a sign-in like the browser's, and recorded like it."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, str]:
        pair: dict[str, str] = super().validate(attrs)
        if self.user is not None:
            record_sign_in(self.context.get("request"), self.user)
        return pair
