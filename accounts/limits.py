"""How often somebody may guess: of one name from one address, of one name, from one address.

A guess is counted before its password is looked at, and taken off again where that was right. So as
many guesses are answered as there may be, however many come at once. Who may not guess is refused
and not counted: trying on does not prolong anything.

The rows are django-axes', its commands (``axes_reset`` and others) work on them by
:class:`GuessHandler`. Names are not readable in them: people type passwords where names belong.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from axes.handlers.base import AxesHandler
from axes.models import AccessFailureLog
from django.conf import settings
from django.db import connections, router, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts.addresses import address_block, client_address
from accounts.models import AccountEvent, User

_KNOWN_FOR = timedelta(days=90)
_SLOWER = 4
"""Times the minutes of the other limits, over which guesses at a name alone are counted."""
_PRUNE_EVERY = 100
"""Guesses after which those that count no more are deleted."""
_ACCOUNT = "path_info"
"""The column of axes that keeps whose account was guessed at; for paths we have no use there."""
_ADDRESS, _NAME, _PAIR = "address", "user", "pair"


class TooManyGuesses(Exception):
    """This guess is not answered."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many guesses.")
        self.retry_after = retry_after
        """Seconds until one may be."""


@dataclass(frozen=True)
class Guess:
    """One that is counted."""

    name: str
    address: str
    account: str
    """Primary key of the account that has this name; "" where none has."""
    row: int
    reached: tuple[str, ...]
    """The limits whose last guess this is: ``pair``, ``user``, ``address``."""


def name_key(name: str) -> str:
    """Equal for names that look alike: case, accents, width and spaces do not give new guesses."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    bare = "".join(it for it in decomposed if not unicodedata.combining(it))
    seen = "".join(it for it in bare if unicodedata.category(it)[0] not in "CZ")
    return salted_hmac("accounts.limits", seen.encode(errors="replace")).hexdigest()


def take_guess(name: str, address: str, owner: User | None = None) -> Guess:
    """Count a guess at a name before it is answered.

    Args:
        owner: of the account of this name, if there is one.

    Raises:
        TooManyGuesses: it is not to be answered.
    """
    key, block = name_key(name), address_block(address)
    account = str(owner.pk) if owner is not None else ""
    with transaction.atomic(using=router.db_for_write(AccessFailureLog)):
        _wait_for_turn(key, block)
        now = timezone.now()
        counted = _counted(key, block, now)
        full = {scope: _wait(scope, times, now) for scope, times in counted.items()}
        if full[_NAME] and owner is not None and _is_known(owner, address):
            full[_NAME] = 0
        if any(full.values()):
            raise TooManyGuesses(max(full.values()))
        row = AccessFailureLog.objects.create(
            username=key, ip_address=block or None, **{_ACCOUNT: account}
        ).pk
    if row % _PRUNE_EVERY == 0:
        prune_guesses()
    reached = tuple(scope for scope, times in counted.items() if len(times) + 1 == _most(scope))
    return Guess(key, block, account, row, reached)


def give_back(guess: Guess) -> None:
    """It was right: neither it nor what was guessed before it from there counts any more. What was
    guessed at the same name from elsewhere does, and so does what was guessed at another account
    whose name looks alike: who has one of those would have any number of guesses at the other."""
    rows = _of_account(guess.name, guess.account)
    rows.filter(ip_address=guess.address or None).delete()


def forget_guesses(owner: User) -> int:
    """All at an account, from anywhere: its owner is known to be there. How many they were."""
    return int(_of_account(name_key(owner.username), str(owner.pk)).delete()[0])


def _of_account(key: str, account: str) -> QuerySet[AccessFailureLog]:
    """Guesses at an account, and those at names like its own that nobody has."""
    return AccessFailureLog.objects.filter(
        Q(**{_ACCOUNT: ""}) | Q(**{_ACCOUNT: account}), username=key
    )


def prune_guesses() -> int:
    """Delete what counts nowhere any more; how many those were."""
    before = timezone.now() - _window(_NAME)
    return int(AccessFailureLog.objects.filter(attempt_time__lt=before).delete()[0])


def _wait_for_turn(key: str, block: str) -> None:
    """Of guesses at one name, or from one address, the second sees the first."""
    with connections[router.db_for_write(AccessFailureLog)].cursor() as cursor:
        cursor.execute(
            """SELECT pg_advisory_xact_lock(turn)
                 FROM (SELECT DISTINCT hashtextextended(text, 56) AS turn
                         FROM unnest(%s) AS text ORDER BY 1) AS turns""",
            [[f"name {key}", f"address {block}"]],
        )


def _counted(key: str, block: str, now: datetime) -> dict[str, list[datetime]]:
    """When those guesses were that count, by limit, the newest first."""
    rows = AccessFailureLog.objects.filter(
        Q(username=key) | Q(ip_address=block or None), attempt_time__gt=now - _window(_NAME)
    ).order_by("-attempt_time")
    found = list(rows.values_list("username", "ip_address", "attempt_time"))

    def times(scope: str, wanted: Iterable[tuple[str, str, datetime]]) -> list[datetime]:
        return [at for _, _, at in wanted if at > now - _window(scope)]

    here = [row for row in found if (row[1] or "") == block]
    return {
        _PAIR: times(_PAIR, (row for row in here if row[0] == key)),
        _NAME: times(_NAME, (row for row in found if row[0] == key)),
        # What comes by no address comes from everybody.
        _ADDRESS: times(_ADDRESS, here) if block else [],
    }


def _wait(scope: str, times: list[datetime], now: datetime) -> int:
    """Seconds until there are fewer than the limit; 0 where there are now."""
    most = _most(scope)
    if most == 0 or len(times) < most:
        return 0
    return max(1, ceil((times[most - 1] + _window(scope) - now).total_seconds()))


def _most(scope: str) -> int:
    """How many guesses are answered; 0: any number."""
    return int(settings.ACCOUNT_GUESSES[scope])


def _window(scope: str) -> timedelta:
    minutes = settings.ACCOUNT_LOCK_MINUTES
    return timedelta(minutes=minutes * _SLOWER if scope == _NAME else minutes)


def _is_known(owner: User, address: str) -> bool:
    """Whether the owner was let in from there. So whoever guesses from many addresses keeps nobody
    out of where he works."""
    return AccountEvent.objects.filter(
        user=owner,
        event=AccountEvent.Event.SIGNED_IN,
        address=address or None,
        at__gt=timezone.now() - _KNOWN_FOR,
    ).exists()


class GuessHandler(AxesHandler):
    """What django-axes asks for; the counting is done before the password is looked at, above."""

    def reset_attempts(
        self,
        *,
        ip_address: str | None = None,
        username: str | None = None,
        ip_or_username: bool = False,
    ) -> int:
        """As its commands want it: of a name, of an address, of both, or all."""
        of_name = Q(username=name_key(username)) if username else Q()
        of_address = Q(ip_address=address_block(ip_address)) if ip_address else Q()
        wanted = of_name | of_address if ip_or_username else of_name & of_address
        return int(AccessFailureLog.objects.filter(wanted).delete()[0])

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """Of this name from this address."""
        name = str((credentials or {}).get("username") or "")
        key, block = name_key(name), address_block(client_address(request))
        return len(_counted(key, block, timezone.now())[_PAIR])
