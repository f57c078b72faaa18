"""People in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import admin_invitations as admin_invitations
from accounts import second_factor
from accounts.models import User


@admin.register(User)
class PeopleAdmin(UserAdmin):
    actions = ("remove_second_factor",)

    @admin.action(permissions=["change"], description="Remove the second factor (telephone lost)")
    def remove_second_factor(self, request: HttpRequest, people: QuerySet[Any]) -> None:
        for user in people:
            second_factor.remove(user, request)
        messages.success(
            request, "Removed. Where the role needs one, the next sign-in asks to set it up."
        )
