"""People and roles in the admin. Nobody hands on, or takes over, what he may not do himself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import redirect

from accounts import admin_history as admin_history
from accounts import admin_invitations as admin_invitations
from accounts import admin_sessions as admin_sessions
from accounts import second_factor
from accounts.history import record
from accounts.invitations import roles_of_giver
from accounts.limits import forget_guesses
from accounts.models import AccountEvent, Session, User
from accounts.sessions import end_sessions_of
from skinspire.lists import ListedLeniently
from skinspire.permissions import covers, names_of

_FOR_GOOD = datetime(9000, 1, 1, tzinfo=UTC)
_HANDED_OUT_BY_SUPERUSERS = ("is_superuser", "user_permissions")


def outranks(person: Any, other: User) -> bool:
    """Whether somebody may do all the other may, or might once he is enabled again; else changing
    that account would be a way up."""
    if person.is_superuser:
        return True
    granted = Permission.objects.filter(user=other) | Permission.objects.filter(group__user=other)
    return not other.is_superuser and covers(person, names_of(granted.distinct()))


@admin.register(User)
class PeopleAdmin(ListedLeniently, UserAdmin):
    actions = ("lock", "unlock", "end_sessions", "remove_second_factor")
    list_display = (
        "username",
        "email",
        "first_name",
        "last_name",
        "is_active",
        "roles",
        "lock_state",
    )
    list_filter = ("groups", "is_active", "is_superuser")

    @admin.display(description="Roles")
    def roles(self, user: User) -> str:
        return ", ".join(sorted(group.name for group in user.groups.all()))

    @admin.display(description="Lock")
    def lock_state(self, user: User) -> str:
        if user.locked_until is None or not user.is_locked:
            return ""
        if user.locked_until == _FOR_GOOD:
            return "locked"
        return f"locked until {user.locked_until:%H:%M} UTC"

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = super().has_change_permission(request, obj)
        return may and (obj is None or outranks(request.user, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may = super().has_delete_permission(request, obj)
        return may and (obj is None or outranks(request.user, obj))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:
        """Of others. For the own one there is a page that asks for the old one: else a session left
        open would be an account taken over."""
        if unquote(id) == str(request.user.pk):
            return redirect("accounts:password")
        return super().user_change_password(request, id, form_url)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Their sessions go with them, which nobody may delete by themselves."""
        found, counts, wanted, protected = super().get_deleted_objects(objs, request)
        return found, counts, set(wanted) - {Session._meta.verbose_name}, protected

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = (*super().get_readonly_fields(request, obj), "last_login", "date_joined")
        return fields if _is_superuser(request) else (*fields, *_HANDED_OUT_BY_SUPERUSERS)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            may = [group.pk for group in roles_of_giver(request.user)]
            kwargs["queryset"] = Group.objects.filter(pk__in=may)
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def _within_reach(self, request: HttpRequest, people: QuerySet[Any]) -> list[User]:
        reached = [user for user in people if self.has_change_permission(request, user)]
        if left := people.count() - len(reached):
            messages.warning(request, f"{left} left alone: they may more than you.")
        return reached

    @admin.action(permissions=["change"], description="Lock, until somebody unlocks")
    def lock(self, request: HttpRequest, people: QuerySet[Any]) -> None:
        """The database writes it down and ends their sessions."""
        for user in self._within_reach(request, people):
            User.objects.filter(pk=user.pk).update(locked_until=_FOR_GOOD)
            messages.success(request, f"{user} is locked.")

    @admin.action(permissions=["change"], description="Unlock, and forget failed sign-ins")
    def unlock(self, request: HttpRequest, people: QuerySet[Any]) -> None:
        for user in self._within_reach(request, people):
            User.objects.filter(pk=user.pk).update(locked_until=None, failed_sign_ins=0)
            forget_guesses(user)
            done = AccountEvent.Outcome.DONE
            record(AccountEvent.Event.UNLOCKED, user=user, request=request, outcome=done)
            messages.success(request, f"{user} is unlocked.")

    @admin.action(permissions=["change"], description="End all sessions")
    def end_sessions(self, request: HttpRequest, people: QuerySet[Any]) -> None:
        by = request.user
        assert isinstance(by, User)
        for user in self._within_reach(request, people):
            ended = end_sessions_of(user, "ended_by_admin", by, request=request)
            messages.success(request, f"{user}: {ended} ended.")

    @admin.action(permissions=["change"], description="Remove the second factor (telephone lost)")
    def remove_second_factor(self, request: HttpRequest, people: QuerySet[Any]) -> None:
        for user in self._within_reach(request, people):
            second_factor.remove(user, request)
            messages.success(
                request,
                f"{user}: removed. Where the role needs one, the next sign-in asks to set it up.",
            )


admin.site.unregister(Group)


@admin.register(Group)
class RoleAdmin(ListedLeniently, GroupAdmin):
    """Of a role only those change anything who may all it may, and may add no more than that."""

    title = "Roles"

    def _reaches(self, request: HttpRequest, group: Any) -> bool:
        return group is None or covers(request.user, names_of(group.permissions.all()))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._reaches(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._reaches(request, obj)

    def formfield_for_manytomany(self, db_field: Any, request: Any = None, **kwargs: Any) -> Any:
        if db_field.name == "permissions":
            every = Permission.objects.select_related("content_type")
            may = [it.pk for it in every if covers(request.user, names_of([it]))]
            kwargs["queryset"] = every.filter(pk__in=may)
        return super().formfield_for_manytomany(db_field, request, **kwargs)


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_superuser)
