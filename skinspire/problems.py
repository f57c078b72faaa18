"""Every error of the API in one shape: RFC 9457, ``application/problem+json``.

Here without DRF, which may not be loaded yet where this is: ``skinspire/api.py`` tells DRF.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import add_never_cache_headers
from django.views import defaults

API = "/api/"
CONTENT_TYPE = "application/problem+json"


def problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    """The body of an answer.

    Args:
        more: members beyond RFC 9457's own.
    """
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}


def answer(status: int, detail: str) -> HttpResponse:
    """The same where DRF is not at work."""
    response = JsonResponse(problem(status, detail), status=status, content_type=CONTENT_TYPE)
    add_never_cache_headers(response)
    return response


def no_such_path(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Behind every path of the API: also where errors are shown as pages for developers."""
    return answer(404, "The API has nothing at this path; /api/docs/ tells what there is.")


def _page_or_problem(status: int, detail: str, page: Callable[..., Any]) -> Callable[..., Any]:
    def handle(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.path_info.startswith(API):
            return answer(status, detail)
        return page(request, *args, **kwargs)

    return handle


bad_request = _page_or_problem(400, "The request cannot be read.", defaults.bad_request)
not_found = _page_or_problem(404, "There is no such thing.", defaults.page_not_found)
forbidden = _page_or_problem(403, "This may not be done.", defaults.permission_denied)
server_error = _page_or_problem(
    500, "Something went wrong here; the server's log tells what.", defaults.server_error
)
