"""Invitations: a signed link that lets somebody register once, with roles chosen beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core import signing
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models.functions import Now
from django.template import loader
from django.urls import reverse
from django.utils import timezone

from accounts import mails
from accounts.history import record
from accounts.models import AccountEvent, Door, Invitation, User
from skinspire.permissions import covers, names_of

_SALT = "accounts.invitation"


class InvitationOver(Exception):
    """It was used meanwhile, or its time is over."""


def prepare(invitation: Invitation, *, by: str, days: int | None = None) -> None:
    """Say who invites, and until when.

    Args:
        days: how long the link opens; ``ACCOUNT_INVITATION_DAYS`` if not told.
    """
    days = settings.ACCOUNT_INVITATION_DAYS if days is None else days
    invitation.invited_by = by
    invitation.expires_at = timezone.now() + timedelta(days=days)


def invite(
    email: str, roles: Iterable[Group] = (), *, by: str, days: int | None = None
) -> Invitation:
    """Write down that somebody may register."""
    invitation = Invitation(email=email)
    prepare(invitation, by=by, days=days)
    with transaction.atomic():
        invitation.save()
        invitation.roles.set(roles)
        note(invitation)
    return invitation


def note(invitation: Invitation, request: Any = None) -> None:
    """Write down that somebody was invited, never the link."""
    done = AccountEvent.Outcome.DONE
    record(AccountEvent.Event.INVITED, request=request, outcome=done, detail=invitation.email)


def path_of(invitation: Invitation) -> str:
    """The link, without scheme and host. It holds nothing secret but its signature."""
    token = signing.Signer(salt=_SALT).sign(str(invitation.pk))
    return reverse("accounts:register_invited", args=[token])


def find_open(token: str) -> Invitation | None:
    """The invitation of a link that still opens."""
    try:
        key = signing.Signer(salt=_SALT).unsign(token)
    except signing.BadSignature:
        return None
    return Invitation.objects.open().filter(pk=key).first()


def mail(invitation: Invitation, url: str) -> None:
    """Send the link to whom it is for."""
    context = {"url": url, "invitation": invitation}
    body = loader.render_to_string("accounts/mail/invitation.txt", context)
    mails.send_later(EmailMessage("You are invited to Skinspire", body, to=[invitation.email]))


def register(user: User, invitation: Invitation | None, request: Any) -> None:
    """Save a new account, and use up what let it in.

    Raises:
        InvitationOver: nothing was saved.
    """
    with transaction.atomic():
        if invitation is not None:
            still = Invitation.objects.open().filter(pk=invitation.pk)
            if not still.update(used_at=Now()):
                raise InvitationOver
        user.save()
        if invitation is not None:
            user.groups.set(invitation.roles.all())
            Invitation.objects.filter(pk=invitation.pk).update(account=user)
        done = AccountEvent.Outcome.DONE
        registered = AccountEvent.Event.REGISTERED
        record(registered, user=user, door=Door.BROWSER, request=request, outcome=done)


def roles_of_giver(user: Any) -> list[Group]:
    """The roles somebody may hand on: those that may nothing he may not."""
    groups = list(Group.objects.prefetch_related("permissions__content_type").order_by("name"))
    if user.is_superuser:
        return groups
    return [group for group in groups if covers(user, names_of(group.permissions.all()))]
