"""What all of the API has in common, as DRF and drf-spectacular call for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.utils.cache import add_never_cache_headers
from drf_spectacular.contrib.rest_framework_simplejwt import SimpleJWTScheme
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from skinspire.bounds import TooLarge
from skinspire.problems import CONTENT_TYPE, problem

_RESPONSE = {
    "description": "An error, in the one shape that all have.",
    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_SCHEMA = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "What is wrong with which field.",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
    "example": {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Authentication credentials were not provided.",
    },
}  # fmt: skip


def problem_of(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None for what is a mistake of ours, which becomes a 500."""
    if isinstance(error, RequestDataTooBig):
        error = TooLarge()
    elif isinstance(error, SuspiciousOperation):
        error = ParseError("The request cannot be read.")
    response = exception_handler(error, context)
    if response is None:
        return None
    if isinstance(error, ValidationError):
        errors = [{"field": field, "detail": text} for field, text in _errors(error.detail)]
        data = problem(response.status_code, "Some fields are not valid.", errors=errors)
    else:
        data = problem(response.status_code, _sentence(response.data))
    response.data = data
    response.content_type = CONTENT_TYPE
    add_never_cache_headers(response)
    return response


def _sentence(data: Any) -> str:
    detail = data.get("detail", "") if isinstance(data, dict) else data
    return str(detail[0] if isinstance(detail, list) and detail else detail)


def _errors(detail: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """(path of the field, sentence); "" is the body as a whole."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            path = [field, "" if name == "non_field_errors" else str(name)]
            yield from _errors(inner, ".".join(filter(None, path)))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _errors(inner, field)
    else:
        yield field, str(detail)


def add_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: every operation may answer with a problem."""
    result["components"].setdefault("schemas", {})["Problem"] = _SCHEMA
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"]["default"] = _RESPONSE
    return result


class DocumentationView(SpectacularSwaggerSplitView):
    """The schema for people to read and try. Nothing in the page is inline or from elsewhere."""

    template_name = "api_docs.html"


class TokenScheme(SimpleJWTScheme):
    """How the schema names our tokens."""

    target_class = "accounts.authentication.ActingJWTAuthentication"
    name = "token"
