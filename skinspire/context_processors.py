"""What every page shows: which environment the console runs in."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest


def environment(request: HttpRequest) -> dict[str, str]:
    """``active_environment`` for the badge in the header."""
    return {"active_environment": settings.ENVIRONMENT.name}
