"""What the API reads, bounded: a request is refused before it costs more than it may."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import (
    APIException,
    NotAcceptable,
    ParseError,
    UnsupportedMediaType,
)
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

_LONGEST_ACCEPT = 1024
_DEEPEST = 40


class TooLarge(APIException):
    """413."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The body is larger than this server reads."
    default_code = "too_large"


class BoundedJSONParser(JSONParser):
    """JSON in UTF-8, as RFC 8259 has it, of bounded length and depth."""

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        asked = (parser_context or {})["request"]
        _require_utf8(asked.content_type, getattr(asked._request, "content_params", {}))
        if _said(asked) > settings.API_LONGEST_BODY:
            raise TooLarge
        body = stream.read(settings.API_LONGEST_BODY + 1)
        if len(body) > settings.API_LONGEST_BODY:
            raise TooLarge
        try:
            found = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise ParseError("The body is not JSON in UTF-8.") from None
        if _is_deep(found):
            raise ParseError(f"The body is nested deeper than {_DEEPEST} levels.")
        return found


def _require_utf8(content_type: str, params: Mapping[str, str]) -> None:
    charset = params.get("charset", "utf-8")
    if charset.strip("\"' ").lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(content_type, "JSON is written in UTF-8.")


def _said(asked: Request) -> int:
    """The length a client says its body has; one that lies is found out by reading."""
    text = asked.META.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdecimal() else 0


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _is_deep(value: Any) -> bool:
    """By levels, not by recursion."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for it in level
            if isinstance(it, (dict, list))
            for inner in (it.values() if isinstance(it, dict) else it)
        ]
        if not level:
            return False
    return True


class BoundedNegotiation(DefaultContentNegotiation):
    """Looks at an Accept of reasonable length only."""

    def get_accept_list(self, request: Request) -> list[str]:
        if len(request.META.get("HTTP_ACCEPT", "")) > _LONGEST_ACCEPT:
            raise NotAcceptable("The Accept header is too long.")
        return super().get_accept_list(request)
