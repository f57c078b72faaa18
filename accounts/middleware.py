"""Per request: who acts."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from accounts.acting import act_as, act_as_nobody


class ActingUserMiddleware:
    """Names the signed-in user to the database for the length of one request."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            if request.user.is_authenticated:
                act_as(request.user.get_username())
            return self._get_response(request)
        finally:
            # Also after an API request, whose token names the user only inside the view.
            act_as_nobody()
