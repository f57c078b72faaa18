"""The second factor: a code of six digits that changes every half minute (TOTP, RFC 6238, by
django-otp), or a recovery code, each of which opens once.

For both doors: the browser's pages ask it, and so does whoever gives out tokens.
"""

from __future__ import annotations

import math
import re
import secrets
from hashlib import sha256
from typing import Any

import segno
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.browser import SECOND_FACTOR
from accounts.history import record
from accounts.models import AccountEvent, Door, RecoveryCode, User
from accounts.sessions import end_sessions_of
from skinspire.permissions import may

CODES = 10
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without what is easily mistaken: i, l, o, 0, 1."""
_LENGTH = 16
"""Characters of a recovery code, of five bits each: too many to be guessed from its hash."""
_MOST_FAILURES = 10
"""Each wrong code doubles the wait, from a second on; not beyond this many, about eight minutes:
whoever knows a password must not keep its owner out for good."""


class TooManyCodes(Exception):
    """Wrong codes came too fast."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many wrong codes. Try again in {retry_after} seconds.")
        self.retry_after = retry_after


def has_second_factor(user: Any) -> bool:
    """Whether it is set up and has to be shown."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).exists()


def needs_second_factor(user: Any) -> bool:
    """Whether this installation lets nobody in like this account with a password alone: the roles
    of ``ACCOUNT_SECOND_FACTOR``, and, where there are any, whoever may change production, by
    whichever role or single permission."""
    roles = settings.ACCOUNT_SECOND_FACTOR
    if not roles:
        return False
    if any(may(user, it, "prod") for it in settings.ACCOUNT_SECOND_FACTOR_DEEDS):
        return True
    return bool(user.groups.filter(name__in=roles).exists())


def is_missing(request: HttpRequest) -> bool:
    """Whether who sits here needs one and has signed in without."""
    return not request.session.get(SECOND_FACTOR) and needs_second_factor(request.user)


def check_code(user: User, code: str, *, door: str, request: Any) -> bool:
    """Whether ``code`` is the account's of this moment, or one of its recovery codes. Either opens
    once. What comes at the same time waits: parallel guesses are counted one by one.

    Raises:
        TooManyCodes: nothing was looked at.
    """
    with transaction.atomic():
        devices = TOTPDevice.objects.select_for_update(of=("self",))
        device = devices.filter(user=user, confirmed=True).first()
        if device is None:
            return False
        allowed, told = device.verify_is_allowed()
        if allowed:
            right = _opens(device, user, re.sub(r"[\s-]", "", code).lower())
            if not right and device.throttling_failure_count > _MOST_FAILURES:
                device.throttling_failure_count = _MOST_FAILURES
                device.save(update_fields=["throttling_failure_count"])
    event = AccountEvent.Event.SECOND_FACTOR_FAILED
    if allowed and not right:  # a flood of those that are not looked at must not write
        refused = AccountEvent.Outcome.REFUSED
        record(event, user=user, door=door, request=request, outcome=refused)
    if not allowed:
        seconds = (told["locked_until"] - timezone.now()).total_seconds()
        raise TooManyCodes(max(1, math.ceil(seconds)))
    return right


def _opens(device: TOTPDevice, user: User, code: str) -> bool:
    if re.fullmatch(r"[0-9]{6}", code):
        return bool(device.verify_token(code))
    unused = RecoveryCode.objects.filter(user=user, code_hash=_hash(user, code), used_at=None)
    if unused.update(used_at=Now()):
        device.throttle_reset()
        return True
    device.throttle_increment()
    return False


def refusal(user: User, code: str, *, door: str, request: Any) -> str:
    """Why an account whose password was right is not let in by this door; "" where it is.

    Raises:
        TooManyCodes: nothing was looked at.
    """
    if not has_second_factor(user):
        missing = "Your role needs a second factor: set it up in the browser first."
        return missing if needs_second_factor(user) else ""
    if not code:
        return "This account has a second factor: send its code of this moment as otp."
    right = check_code(user, code, door=door, request=request)
    return "" if right else "That otp is not the code of this moment, or it was used already."


def begin(user: User) -> TOTPDevice:
    """A new secret, which counts for nothing until a code of it was typed."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user, confirmed=False).delete()
        return TOTPDevice.objects.create(user=user, name="authenticator", confirmed=False)


def begun(user: Any) -> TOTPDevice | None:
    """The secret that waits for its first code."""
    return TOTPDevice.objects.filter(user=user, confirmed=False).first()


def finish(request: Any, code: str) -> list[str]:
    """Take a first code; from then on one is asked for. Other sessions, which came in without, end.

    Returns:
        The recovery codes, which are shown this once; empty where the code was wrong.

    Raises:
        TooManyCodes: nothing was looked at.
    """
    user = request.user
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update(of=("self",)).filter(
            user=user, confirmed=False
        )
        waiting = device.first()
        if waiting is None:
            return []
        allowed, told = waiting.verify_is_allowed()
        right = allowed and waiting.verify_token(re.sub(r"\s", "", code))
        if right:
            TOTPDevice.objects.filter(user=user, confirmed=True).delete()
            waiting.confirmed = True
            waiting.save(update_fields=["confirmed"])
            _record(AccountEvent.Event.SECOND_FACTOR_SET, request)
            keep = request.account_session.pk
            end_sessions_of(user, "second_factor", user, keep=keep, request=request)
    if not allowed:
        seconds = (told["locked_until"] - timezone.now()).total_seconds()
        raise TooManyCodes(max(1, math.ceil(seconds)))
    if not right:
        return []
    request.session[SECOND_FACTOR] = True
    return new_recovery_codes(request)


def new_recovery_codes(request: Any) -> list[str]:
    """Ten of them, in place of those before. Only their hashes are kept."""
    codes = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(CODES)]
    user = request.user
    with transaction.atomic():
        RecoveryCode.objects.filter(user=user).delete()
        RecoveryCode.objects.bulk_create(
            RecoveryCode(user=user, code_hash=_hash(user, code)) for code in codes
        )
        _record(AccountEvent.Event.RECOVERY_CODES_MADE, request)
    return ["-".join(code[at : at + 4] for at in range(0, _LENGTH, 4)) for code in codes]


def codes_left(user: Any) -> int:
    """How many recovery codes still open."""
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def remove(user: Any, request: Any) -> None:
    """Sign-ins of this account need the password alone again."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user).delete()
        RecoveryCode.objects.filter(user=user).delete()
        record(
            AccountEvent.Event.SECOND_FACTOR_REMOVED,
            user=user,
            door=Door.BROWSER,
            request=request,
            outcome=AccountEvent.Outcome.DONE,
            detail="" if user == request.user else f"by {request.user.get_username()}",
        )


def picture(device: TOTPDevice) -> str:
    """The secret as a QR code for an authenticator, as an image in a data: URL."""
    made = segno.make(device.config_url, error="m", micro=False)
    return str(made.svg_data_uri(scale=5, border=4, dark="#000", light="#fff"))


def typed(device: TOTPDevice) -> str:
    """The secret for those who cannot take a picture of it, in groups of four."""
    secret = str(re.search(r"[?&]secret=([A-Z2-7]+)", device.config_url)[1])  # type: ignore[index]
    return " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))


def _hash(user: Any, code: str) -> str:
    return sha256(f"{user.pk}:{code}".encode()).hexdigest()


def _record(event: str, request: Any) -> None:
    done = AccountEvent.Outcome.DONE
    record(event, user=request.user, door=Door.BROWSER, request=request, outcome=done)
