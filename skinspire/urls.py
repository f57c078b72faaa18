"""Where the apps meet."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView

from skinspire.api import DocumentationView
from skinspire.problems import no_such_path

_to_login = RedirectView.as_view(pattern_name="accounts:login", query_string=True)

urlpatterns = [
    path("", include("dbops.urls")),
    path("accounts/", include("accounts.urls")),
    path("admin/login/", _to_login),  # before the admin's own: there is one page of each
    path("admin/password_change/", RedirectView.as_view(pattern_name="accounts:password")),
    path("admin/", admin.site.urls),
    path("api/auth/", include("accounts.api_urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", DocumentationView.as_view(), name="docs"),
    re_path(r"^api(?:/(?P<rest>.*))?$", no_such_path),
]
handler400 = "skinspire.problems.bad_request"
handler403 = "skinspire.problems.forbidden"
handler404 = "skinspire.problems.not_found"
handler500 = "skinspire.problems.server_error"
