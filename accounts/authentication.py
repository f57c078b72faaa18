"""Who calls the API."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.tokens import Token

from accounts.acting import act_as


class ActingJWTAuthentication(JWTAuthentication):
    """An access token; its owner is named to the database as a browser's user is."""

    def authenticate(self, request: Request) -> tuple[Any, Token] | None:
        found: tuple[Any, Token] | None = super().authenticate(request)
        if found is not None:
            act_as(found[0].get_username())
        return found
