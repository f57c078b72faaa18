"""Requests that no page could read are answered before one tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_header_parameters

from skinspire.problems import API, bad_request, not_found

_UTF8 = ("utf-8", "utf8")


class LegibleRequest(WSGIRequest):
    """Reads its query and its forms as UTF-8, whatever it says of itself. Django decodes them by
    any codec of Python's that is named, ``rot13`` too, and fails before its middleware is asked."""

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            said = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (ValueError, LookupError):
            said = "", {}
        self.content_type, self.content_params = said


class LegibleMiddleware:
    """Turns down what says that it is not in UTF-8, and NUL in the path or the query, which
    PostgreSQL takes in no text."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "\0" in request.path_info:
            return not_found(request, None)
        if "%00" in request.META.get("QUERY_STRING", ""):
            return bad_request(request, None)
        charset = (request.content_params or {}).get("charset", "utf-8")
        known = charset.strip("\"' ").lower().replace("_", "-") in _UTF8
        if not known and not request.path_info.startswith(API):  # which has words of its own
            return bad_request(request, None)
        return self._get_response(request)
