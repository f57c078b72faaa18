"""Delete the backups that retention does not keep, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from dbops.backups.manifest import Manifest
from dbops.backups.retention import Candidate, Kept, Plan, RetentionPolicy, plan_retention
from dbops.backups.store import BackupStore
from dbops.exceptions import BackupInvalidError, BackupNotFoundError, DbopsError
from dbops.operations.context import OperationContext
from dbops.postgres.process import Poll, do_not_poll


@dataclass(frozen=True)
class PruneRequest:
    """Which backups to look through, and what is known of them beside their manifests."""

    store: BackupStore
    policy: RetentionPolicy
    environment: str = ""
    """"" for the backups of every environment."""
    verified: Mapping[str, datetime] = field(default_factory=dict)
    """When a backup was last verified, by name."""
    damaged: Collection[str] = frozenset()
    """Names whose last verification failed."""
    in_use: Callable[[], Collection[str]] = frozenset
    """Names that open operations use; asked again right before each deletion."""


@dataclass(frozen=True)
class PruneResult:
    """What was deleted, what stays and why, and what the storage refused to delete and why."""

    deleted: list[str]
    kept: list[Kept]
    freed: int
    """Bytes."""
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PrunePlan:
    """What pruning would do."""

    plan: Plan
    unknown: tuple[Kept, ...]
    """What is no good backup, so that nothing can be said of it: never touched."""
    remnants: tuple[Manifest, ...]
    """What a deletion that was cut short has left."""

    @property
    def names(self) -> list[str]:
        """Names that go."""
        deleted = [backup.name for backup in self.plan.deleted]
        return deleted + [remnant.name for remnant in self.remnants]

    @property
    def kept(self) -> list[Kept]:
        """Everything that stays."""
        return [*self.plan.kept, *self.unknown]


def plan_prune(request: PruneRequest, poll: Poll = do_not_poll) -> PrunePlan:
    """Read every manifest in the storage, which is the truth, and plan by the policy."""
    now = datetime.now(UTC)
    in_use = request.in_use()
    found: list[Candidate] = []
    unknown: list[Kept] = []
    for name in request.store.names():
        poll()
        try:
            manifest = _read_good(request, name)
        except BackupNotFoundError:
            continue  # deleted since it was listed
        except BackupInvalidError as error:
            unknown.append(Kept(name, (f"not valid: {error}",)))
            continue
        if _is_meant(request, manifest):
            pinned = request.store.is_pinned(name)
            verified_at = request.verified.get(name)
            found.append(Candidate(manifest, pinned, name in in_use, verified_at))
    remnants = tuple(
        it
        for it in request.store.remnants()
        if _is_meant(request, it) and not request.store.is_pinned(it.name)
    )
    return PrunePlan(plan_retention(found, request.policy, now), tuple(unknown), remnants)


def _read_good(request: PruneRequest, name: str) -> Manifest:
    """A damaged backup must not pass for the newest good one. Raises BackupInvalidError."""
    manifest = request.store.read_manifest(name)
    size = request.store.archive_size(name)
    if size != manifest.size:
        raise BackupInvalidError(f"damaged, {size} bytes of {manifest.size}")
    if name in request.damaged:
        raise BackupInvalidError("damaged, as its last verification found")
    return manifest


def _is_meant(request: PruneRequest, manifest: Manifest) -> bool:
    return request.environment in ("", manifest.environment)


def prune_backups(request: PruneRequest, context: OperationContext) -> PruneResult:
    """Delete what the plan does not keep, the oldest first.

    What the storage refuses to delete is named in the result and the others are deleted all the
    same. Two that prune at once do no harm: each looks again before every deletion.
    """
    context.step("read manifests")
    planned = plan_prune(request, context.check_cancelled)
    context.begin_commit()
    result = PruneResult([], planned.kept, 0)
    freed = 0
    for backup in planned.plan.deleted:
        context.step("delete", freed, planned.plan.freed)
        with _refusals(backup.name, result.refused):
            if reason := _reason_to_spare(request, backup.manifest):
                result.kept.append(Kept(backup.name, (reason,)))
            else:
                request.store.delete(backup.name)
                result.deleted.append(backup.name)
                freed += backup.manifest.size
    for remnant in planned.remnants:
        with _refusals(remnant.name, result.refused):
            if not request.store.exists(remnant.name):
                request.store.delete(remnant.name)
                result.deleted.append(remnant.name)
    return replace(result, freed=freed)


@contextmanager
def _refusals(name: str, refused: dict[str, str]) -> Iterator[None]:
    """What fails for one backup is noted, and the next one's turn comes."""
    try:
        yield
    except BackupNotFoundError:
        pass  # another one that prunes has deleted it
    except DbopsError as error:
        refused[name] = str(error)


def _reason_to_spare(request: PruneRequest, planned: Manifest) -> str:
    """What speaks by now for a backup that is to go; "" for nothing."""
    if request.store.read_manifest(planned.name) != planned:
        return "changed meanwhile"
    if planned.name in request.in_use():
        return "in use"
    return "pinned" if request.store.is_pinned(planned.name) else ""
