"""Invitations in the admin: made here, never changed; withdrawn by deleting them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import invitations
from accounts.models import Invitation
from skinspire.lists import ListedLeniently

if admin.site.is_registered(TOTPDevice):  # its secrets are nobody's to look at
    admin.site.unregister(TOTPDevice)


@admin.register(Invitation)
class InvitationAdmin(ListedLeniently, admin.ModelAdmin):
    list_display = ("email", "invited_by", "created_at", "expires_at", "state")
    search_fields = ("email", "invited_by")
    fields = ("email", "roles")

    @admin.display(description="State")
    def state(self, invitation: Invitation) -> str:
        if invitation.used_at:
            return "used"
        return "open" if invitation.expires_at > timezone.now() else "over"

    @admin.display(description="Link")
    def link(self, invitation: Invitation) -> SafeString | str:
        if self.state(invitation) != "open":
            return "opens no more"
        if not invitations.may_hand_on(self._request.user, invitation):
            return "for those to see who may all its roles may"
        return format_html("<code>{}</code>", self._url(invitation))

    def _url(self, invitation: Invitation) -> str:
        return self._request.build_absolute_uri(invitations.path_of(invitation))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        self._request = request
        return ("email", "roles", "state", "link") if obj else self.fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("email", "roles", "state", "link") if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "roles":
            may = [group.pk for group in invitations.roles_of_giver(request.user)]
            kwargs["queryset"] = Group.objects.filter(pk__in=may)
            kwargs["widget"] = forms.CheckboxSelectMultiple
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        invitations.prepare(obj, by=request.user.get_username())
        super().save_model(request, obj, form, change)
        invitations.note(obj.email, request)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        self._request = request
        url = self._url(obj)
        invitations.mail(obj, url)
        self.message_user(
            request, format_html("The link, for this person alone: <code>{}</code>", url)
        )
        return super().response_add(request, obj, post_url_continue)
