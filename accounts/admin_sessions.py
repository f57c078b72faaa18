"""Sessions in the admin: all of them, and any ended."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts.admin_history import ReadOnlyAdmin
from accounts.models import Session, User
from accounts.sessions import end_session


class OpenFilter(admin.SimpleListFilter):
    """Whether they still let somebody in."""

    title = "open"
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", "open"), ("no", "over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        active = Session.objects.active().values("pk")
        if self.value() == "yes":
            return queryset.filter(pk__in=active)
        return queryset.exclude(pk__in=active) if self.value() == "no" else queryset


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    list_display = ("user", "door", "created_at", "last_seen_at", "state", "address", "device")
    list_filter = (OpenFilter, "door", "end_reason")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    ordering = ("-created_at",)
    exclude = ("key_hash", "previous_hash")
    actions = ("end",)

    @admin.display(description="State")
    def state(self, session: Session) -> str:
        if session.ended_at is not None:
            return session.end_reason
        return "open" if session.expires_at > timezone.now() else "expired"

    def has_end_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("accounts.change_session"))

    @admin.action(permissions=["end"], description="End the chosen sessions")
    def end(self, request: HttpRequest, sessions: QuerySet[Session]) -> None:
        """Anybody's: to be thrown out harms nobody, so rank is not asked for."""
        by = request.user
        assert isinstance(by, User)
        ended = sum(end_session(it, "ended_by_admin", by, request) for it in sessions)
        messages.success(request, f"{ended} ended.")
