"""Which backups to keep: the newest of each of the last days, weeks and months that have one.

The scheme is known as grandfather-father-son. Nothing here reads a storage or a clock, and the
layers count periods that have a backup, not time that has passed: where backups have failed for
months, none of the old ones goes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from dbops.backups.manifest import Manifest


@dataclass(frozen=True)
class RetentionPolicy:
    """Of how many days, ISO weeks and months (UTC) the newest backup is kept; 0 for none."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 12


_PERIODS: Mapping[str, Callable[[datetime], Hashable]] = {
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
}


@dataclass(frozen=True)
class Candidate:
    """A good backup, and what speaks for keeping it beside its age."""

    manifest: Manifest
    pinned: bool = False
    in_use: bool = False
    verified_at: datetime | None = None

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def created_at(self) -> datetime:
        """In UTC, as all days, weeks and months here."""
        return datetime.fromisoformat(self.manifest.created_at).astimezone(UTC)


@dataclass(frozen=True)
class Kept:
    """A backup that stays, and why: every reason there is."""

    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What stays, newest first, and what goes, oldest first."""

    kept: tuple[Kept, ...]
    deleted: tuple[Candidate, ...]

    @property
    def freed(self) -> int:
        """Bytes of the archives that go."""
        return sum(backup.manifest.size for backup in self.deleted)


def plan_retention(backups: Sequence[Candidate], policy: RetentionPolicy, now: datetime) -> Plan:
    """What to keep of each environment's backups.

    Beside what the layers keep, never deleted: the newest whole backup, the verified ones that
    are newest or were verified last, the pinned, the used, and one dated after ``now``: somebody's
    clock is wrong, so its age says nothing. A partial backup counts for none of these and goes
    once it is ``policy.daily`` days old.
    """
    newest_first = sorted(backups, key=lambda it: (it.created_at, it.name), reverse=True)
    reasons = {backup.name: list(_of_its_own(backup, policy, now)) for backup in newest_first}
    counting = [it for it in newest_first if not it.manifest.excluded and it.created_at <= now]
    for environment in {backup.manifest.environment for backup in counting}:
        for name, reason in _among_others(
            [it for it in counting if it.manifest.environment == environment], policy
        ):
            reasons[name].append(reason)
    return Plan(
        tuple(Kept(name, tuple(why)) for name, why in reasons.items() if why),
        tuple(backup for backup in reversed(newest_first) if not reasons[backup.name]),
    )


def _of_its_own(backup: Candidate, policy: RetentionPolicy, now: datetime) -> Iterator[str]:
    if backup.pinned:
        yield "pinned"
    if backup.in_use:
        yield "in use"
    days = (now.astimezone(UTC).date() - backup.created_at.date()).days
    if backup.created_at > now:
        yield "dated in the future"
    elif backup.manifest.excluded and days < policy.daily:
        yield "partial, recent"


def _among_others(
    newest_first: Sequence[Candidate], policy: RetentionPolicy
) -> Iterator[tuple[str, str]]:
    """(name, reason) for what the whole backups of one environment are to each other."""
    yield newest_first[0].name, "newest good"
    verified = {it.name: it.verified_at for it in newest_first if it.verified_at}
    if verified:
        for name in {next(iter(verified)), max(verified, key=verified.__getitem__)}:
            yield name, "last verified"
    for layer, period in _PERIODS.items():
        newest: dict[Hashable, str] = {}
        for backup in newest_first:
            newest.setdefault(period(backup.created_at), backup.name)
        for name in islice(newest.values(), getattr(policy, layer)):
            yield name, layer
