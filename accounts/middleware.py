"""Per request: who acts."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from accounts.history import actor_of
from skinspire.acting import acting_as


class ActingUserMiddleware:
    """Names the signed-in user to the database for the length of one request; for an API request
    the token does so, inside the view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with acting_as(actor_of(request.user)):
            return self._get_response(request)
