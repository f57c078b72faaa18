"""The project's paths and two more: one view, for everyone and for those who have a token."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from skinspire.urls import handler400, handler403, handler404, handler500, urlpatterns

__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]


class Shut(APIView):
    """A page of a list, as the API has them: twenty rows by the ORM."""

    def get(self, request: Request) -> Response:
        rows: list[Any] = list(User.objects.order_by("pk").values()[:20])
        return Response([row | {"password": None} for row in rows])


class Open(Shut):
    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()


urlpatterns = [
    path("bench/open/", Open.as_view()),
    path("bench/shut/", Shut.as_view()),
    *urlpatterns,
]
