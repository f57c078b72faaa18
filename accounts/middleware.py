"""Per request: whether the session still lets in, who acts, and what has to be proved first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts import browser, second_factor
from accounts.history import actor_of, at_work
from skinspire.acting import NOBODY, acting_as

_SAFE = ("GET", "HEAD", "OPTIONS")
_API = "/api/"


def local_page(request: HttpRequest, url: str | None) -> str:
    """``url`` as a path of this console; "" where it leads elsewhere."""
    if not url or not url_has_allowed_host_and_scheme(
        url, {request.get_host()}, require_https=request.is_secure()
    ):
        return ""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    return path if url_has_allowed_host_and_scheme(path, None) else ""


def page_of(request: HttpRequest) -> str:
    """The page somebody is on: what was asked for, or where the form stands that was sent."""
    if request.method in _SAFE:
        return request.get_full_path()
    return local_page(request, request.headers.get("Referer"))


def lead_to(name: str, request: HttpRequest) -> HttpResponse:
    """On to a page of accounts, which leads back."""
    page = page_of(request)
    query = f"?{urlencode({REDIRECT_FIELD_NAME: page})}" if page else ""
    return redirect(reverse(name) + query)


class BrowserSessionMiddleware:
    """Asks the session's row with every request of a browser that is signed in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith(_API):  # a token's affair; no cookie opens it
            return self._get_response(request)
        login = reverse(settings.LOGIN_URL)
        elsewhere = request.path_info not in (login, reverse("accounts:logout"))
        if browser.check(request) and request.method not in _SAFE and elsewhere:
            return lead_to(settings.LOGIN_URL, request)
        return self._get_response(request)


class ActingUserMiddleware:
    """Names the signed-in user to the database for the length of one request; for an API request
    the token does so, inside the view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # No cookie counts in the API, not even to say who guesses there.
        actor = NOBODY if request.path_info.startswith(_API) else actor_of(request.user)
        with acting_as(actor), at_work(request):
            return self._get_response(request)


class ProofMiddleware:
    """What has to be proved before a view is entered: a second factor, by whoever needs one, and
    a recent sign-in, before anything that destroys (``ACCOUNT_FRESH_VIEWS``)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        if match is None or not hasattr(request, "account_session"):
            return None
        if match.namespace != "accounts" and second_factor.is_missing(request):
            messages.warning(request, "Your role needs a second factor. Set one up to go on.")
            return lead_to("accounts:second_factor", request)
        sends = request.method not in _SAFE and match.view_name in settings.ACCOUNT_FRESH_FORMS
        wanted = sends or match.view_name in settings.ACCOUNT_FRESH_VIEWS
        if wanted and not browser.is_fresh(request):
            return lead_to("accounts:confirm", request)
        return None
