"""What every page shows: which environment the console runs in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from skinspire.permissions import Deeds


def environment(request: HttpRequest) -> dict[str, Any]:
    """``active_environment`` for the badge in the header, ``may`` for what somebody is offered."""
    found: dict[str, Any] = {"active_environment": settings.ENVIRONMENT.name}
    user = getattr(request, "user", None)  # none where it failed before anybody was asked
    return found | {"may": Deeds(user)} if user is not None else found
