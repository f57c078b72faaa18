"""Invitations: a signed link that lets somebody register once, with roles chosen beforehand.

Where anybody may register, people invite themselves: so an address is known to be theirs before
there is an account, and nobody learns whose addresses have one.
"""

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
from accounts.addresses import client_address
from accounts.history import record
from accounts.models import AccountEvent, Door, Invitation, User
from skinspire.permissions import covers, names_of

_ASKED_FOR_ONE, _ASKED_FROM_ONE = 3, 20
"""Links an hour for one e-mail address, and links asked for from one place."""


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
    email: str,
    roles: Iterable[Group] = (),
    *,
    by: str,
    days: int | None = None,
    request: Any = None,
) -> Invitation:
    """Write down that somebody may register.

    Args:
        by: whose name the mail tells; "" where people invite themselves.
        days: as of :func:`prepare`.
    """
    invitation = Invitation(email=email)
    prepare(invitation, by=by, days=days)
    with transaction.atomic():
        invitation.save()
        invitation.roles.set(roles)
        note(email, request)
    return invitation


def ask(email: str, request: Any) -> None:
    """Send somebody who wants to register a link, or to whoever has an account already, that he
    has. Nothing is sent where much was: nobody's mailbox can be filled."""
    recent = AccountEvent.objects.filter(
        event=AccountEvent.Event.INVITED, user=None, at__gt=timezone.now() - timedelta(hours=1)
    )
    here = recent.filter(address=client_address(request) or None)
    if (
        recent.filter(detail__iexact=email).count() >= _ASKED_FOR_ONE
        or here.count() >= _ASKED_FROM_ONE
    ):
        return
    user = User.objects.filter(email__iexact=email).first()
    if user is None:
        invitation = invite(email, by="", request=request)
        mail(invitation, request.build_absolute_uri(path_of(invitation)))
        return
    note(email, request)
    url = request.build_absolute_uri(reverse("accounts:reset"))
    _mail("You have an account", "accounts/mail/account.txt", user.email, url=url, user=user)


def note(email: str, request: Any = None) -> None:
    """Write down that somebody was invited, never the link."""
    done = AccountEvent.Outcome.DONE
    record(AccountEvent.Event.INVITED, request=request, outcome=done, detail=email)


def path_of(invitation: Invitation) -> str:
    """The link, without scheme and host. It holds nothing secret but its signature."""
    token = _signer().sign(str(invitation.pk))
    return reverse("accounts:register_invited", args=[token])


def find_open(token: str) -> Invitation | None:
    """The invitation of a link that still opens."""
    try:
        key = _signer().unsign(token)
    except signing.BadSignature:
        return None
    found = Invitation.objects.open().filter(pk=key).first()
    return found if found is not None and _is_backed(found) else None


def _is_backed(invitation: Invitation) -> bool:
    """Whether whoever invited could still do so: who was thrown out does not come back by a link of
    his own. Invitations by a command, and of people themselves, name no account."""
    giver = User.objects.filter(username=invitation.invited_by).first()
    return giver is None or (giver.is_active and may_hand_on(giver, invitation))


def _signer() -> signing.Signer:
    """Of this environment: others may share its SECRET_KEY."""
    return signing.Signer(salt=f"accounts.invitation.{settings.ENVIRONMENT.name}")


def mail(invitation: Invitation, url: str) -> None:
    """Send the link to whom it is for."""
    subject = "You are invited to Skinspire" if invitation.invited_by else "Your account"
    template = "accounts/mail/invitation.txt"
    _mail(subject, template, invitation.email, url=url, invitation=invitation)


def _mail(subject: str, template: str, email: str, **context: Any) -> None:
    body = loader.render_to_string(template, context)
    mails.send_later(EmailMessage(subject, body, to=[email]))


def register(user: User, invitation: Invitation, request: Any) -> None:
    """Save a new account, and use up the invitation.

    Raises:
        InvitationOver: nothing was saved.
    """
    with transaction.atomic():
        still = Invitation.objects.open().filter(pk=invitation.pk)
        if not (still.update(used_at=Now()) and _is_backed(invitation)):
            raise InvitationOver
        user.save()
        user.groups.set(invitation.roles.all())
        Invitation.objects.filter(pk=invitation.pk).update(account=user)
        done = AccountEvent.Outcome.DONE
        registered = AccountEvent.Event.REGISTERED
        record(registered, user=user, door=Door.BROWSER, request=request, outcome=done)


def may_hand_on(user: Any, invitation: Invitation) -> bool:
    """Whether somebody may give all that an invitation gives."""
    return set(invitation.roles.all()) <= set(roles_of_giver(user))


def roles_of_giver(user: Any) -> list[Group]:
    """The roles somebody may hand on: those that may nothing he may not."""
    groups = list(Group.objects.prefetch_related("permissions__content_type").order_by("name"))
    if user.is_superuser:
        return groups
    return [group for group in groups if covers(user, names_of(group.permissions.all()))]
