"""What watches the process asks here, before sessions and before any other database query."""

from __future__ import annotations

from collections.abc import Callable

from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseLayerError
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.cache import add_never_cache_headers
from django.views.decorators.http import require_safe

from skinspire.router import CONTROL


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is looked at."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """200 where requests can be served: both databases answer and hold what this code expects.
    Otherwise 503, and which of them does not; anyone may ask, so never where or why."""
    problems = {
        name: _problem(alias)
        for name, alias in (("database", DEFAULT_DB_ALIAS), (CONTROL, CONTROL))
    }
    ready = not any(problems.values())
    checks = [{"name": name, "ok": not it, "value": it or "ok"} for name, it in problems.items()]
    return JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503)


def _problem(alias: str) -> str:
    connection = connections[alias]
    try:
        executor = MigrationExecutor(connection)
        pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except DatabaseLayerError:
        return "does not answer"
    if not pending:
        return ""
    return "1 migration is not applied" if pending == 1 else f"{pending} migrations are not applied"


PROBES: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/healthz": healthz,
    "/readyz": readyz,
}


class ProbeMiddleware:
    """Answers probes itself: a cookie must not make /healthz depend on the table of sessions, and
    whoever watches may call the process by its bare address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        probe = PROBES.get(request.path_info)
        if probe is None:
            return self._get_response(request)
        response = probe(request)
        add_never_cache_headers(response)
        return response
