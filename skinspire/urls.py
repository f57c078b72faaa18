"""Where the apps meet."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

admin.site.site_header = admin.site.site_title = "Skinspire"
admin.site.index_title = "Records"
admin.site.enable_nav_sidebar = False  # the bar at the top leads everywhere

_to_login = RedirectView.as_view(pattern_name="accounts:login", query_string=True)

urlpatterns = [
    path("", include("dbops.urls")),
    path("accounts/", include("accounts.urls")),
    path("admin/login/", _to_login),  # before the admin's own: there is one page of each
    path("admin/password_change/", RedirectView.as_view(pattern_name="accounts:password")),
    path("admin/", admin.site.urls),
    path("api/auth/", include("accounts.api_urls")),
]
