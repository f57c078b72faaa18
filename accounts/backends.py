"""Whose password opens, for whatever asks by Django's ``authenticate()``."""

from __future__ import annotations

from typing import Any

from axes.backends import AxesStandaloneBackend
from django.contrib.auth.backends import ModelBackend
from django.core.exceptions import PermissionDenied
from rest_framework.request import Request

from accounts.models import Door, User
from accounts.signing_in import SignInRefused, authenticate_person


class LockingBackend(AxesStandaloneBackend, ModelBackend):
    """By the one way in. Sessions that are open stay so where a name is guessed at: that must not
    throw its owner out."""

    def authenticate(
        self,
        request: Any,
        username: str | None = None,
        password: str | None = None,
        **credentials: Any,
    ) -> User | None:
        """
        Raises:
            PermissionDenied: no other backend is to be asked. ``request.sign_in_refused`` says
                after how long to try again.
        """
        if username is None or password is None:
            return None
        door = Door.API if isinstance(request, Request) else Door.BROWSER
        try:
            return authenticate_person(request, username, password, door)
        except SignInRefused as refused:
            if request is not None:
                request.sign_in_refused = refused
            raise PermissionDenied(str(refused)) from refused
