"""Who enters the admin."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.http import HttpRequest


class ConsoleSite(AdminSite):
    """Opens to whoever may do or see anything in it: a role is enough, and Django's staff flag is
    for accounts without one."""

    site_header = site_title = "Skinspire"
    index_title = "Records"
    enable_nav_sidebar = False  # the bar at the top leads everywhere

    def has_permission(self, request: HttpRequest) -> bool:
        user = request.user
        return user.is_active and (user.is_staff or bool(user.get_all_permissions()))
