"""``invite``: a link by which one person registers."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from accounts import invitations
from skinspire.acting import acting


class Command(BaseCommand):
    help = (
        "Make a link by which one person registers an account of the active environment, with the "
        "roles named here. It opens once, for a week."
    )
    example = "invite nora@example.org --role operator"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email", metavar="EMAIL", help="whom it is for")
        parser.add_argument(
            "--role", action="append", default=[], metavar="ROLE", help="what the account will be"
        )
        parser.add_argument("--days", type=int, help="how long it opens")
        parser.add_argument("--url", default="", help="where the console is, as people call it")
        parser.add_argument("--mail", action="store_true", help="send the link to EMAIL as well")
        parser.add_argument("--json", action="store_true", help="one JSON object on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.ACCOUNT_REGISTRATION == "off":
            raise CommandError("Nobody registers here: ACCOUNT_REGISTRATION is off.")
        days = options["days"]
        if days is not None and not 1 <= days <= _MOST_DAYS:
            raise CommandError(f"--days must be from 1 to {_MOST_DAYS}.")
        roles = _roles(options["role"])
        invitation = invitations.invite(_email(options["email"]), roles, by=_inviting(), days=days)
        url = (options["url"] or _console()).rstrip("/") + invitations.path_of(invitation)
        if options["mail"]:
            invitations.mail(invitation, url)
        until = invitation.expires_at
        if options["json"]:
            result = {"email": invitation.email, "url": url, "until": until.isoformat()}
            self.stdout.write(json.dumps({"operation": None, "result": result}))
            return
        self.stdout.write(url)
        self.stderr.write(f"For {invitation.email} alone; it opens once, until {until:%c} UTC.")


_MOST_DAYS = 90


def _inviting() -> str:
    """No account's name, though one may be called like the user of this machine: what that account
    may is not what the command line may."""
    actor = acting()
    return f"{actor.name} at the command line" if actor else "the command line"


def _email(text: str) -> str:
    try:
        validate_email(text)
    except ValidationError:
        raise CommandError(f"{text[:80]} is no e-mail address.") from None
    return text


def _roles(names: list[str]) -> list[Group]:
    found = {group.name: group for group in Group.objects.all()}
    for name in names:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise CommandError(f"There is no role {name[:80]}. Roles: {known}.")
    return [found[name] for name in names]


def _console() -> str:
    """Where the console most likely is."""
    host = next((it for it in settings.ALLOWED_HOSTS if it.strip(".*")), "localhost")
    if settings.SESSION_COOKIE_SECURE:
        return f"https://{host.lstrip('.')}"
    return f"http://{host.lstrip('.')}:8000"
