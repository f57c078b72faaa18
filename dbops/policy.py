"""What is allowed: protected environments, directions of copying, what a console may write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from dbops.conf import active_environment
from dbops.exceptions import ConfirmationError, PolicyError
from dbops.models import Backup, Operation
from skinspire.environment import ENVIRONMENTS

_READING = {Operation.Kind.BACKUP, Operation.Kind.VERIFY, Operation.Kind.PRUNE}
_MOVING = {Operation.Kind.COPY, Operation.Kind.RESTORE, Operation.Kind.VERIFY}
"""Kinds by which rows of one environment can arrive on the server of another."""


def is_protected(environment: str) -> bool:
    """True where the environment's name must be typed before it is written."""
    return environment in settings.DBOPS_PROTECTED


def is_destructive(kind: str) -> bool:
    """True where the operation puts another database in the target's place."""
    return kind in Operation.REPLACING


def needs_typed_name(kind: str, target: str) -> bool:
    """True where ``--confirm ENV`` is needed, whatever else was said."""
    return kind not in _READING and is_protected(target)


def check_policy(operation: Operation, *, confirm: str = "") -> None:
    """Refuse what the rules of this installation do not allow.

    Args:
        confirm: the environment name the user typed.

    Raises:
        PolicyError: never allowed here. ConfirmationError: allowed once its name is typed.
    """
    kind, target = operation.kind, operation.target
    if kind == Operation.Kind.COPY:
        _check_copy(operation)
    _check_masking(operation)
    if operation.door != "cli" and not _only_reads(operation):
        # What concerns the storage concerns every environment.
        _check_console(target or operation.options.get("environment") or ENVIRONMENTS[-1])
    if not _leaves_no_trace(operation):
        require_typed_name(kind, target, confirm)


def _leaves_no_trace(operation: Operation) -> bool:
    """A trial of triggers is rolled back; a rehearsal works on a copy, which is dropped."""
    options = operation.options
    if operation.kind == Operation.Kind.TRIGGERS:
        return bool(options.get("test"))
    rehearsing = operation.kind in (Operation.Kind.MIGRATE, Operation.Kind.ROLLBACK)
    return rehearsing and bool(options.get("only_rehearse"))


def _only_reads(operation: Operation) -> bool:
    """A verification that restores aside makes a database on its environment's server."""
    kind = operation.kind
    return kind == Operation.Kind.BACKUP or (kind == Operation.Kind.VERIFY and not operation.target)


def require_typed_name(kind: str, target: str, typed: str) -> None:
    """Raise ConfirmationError where the name must be typed and was not."""
    if needs_typed_name(kind, target) and typed != target:
        raise ConfirmationError(
            f"{target} is protected: writing to it needs its name typed.",
            hint=f"If you mean it: --confirm {target}",
        )


def _check_copy(operation: Operation) -> None:
    if is_protected(operation.target) and not settings.DBOPS_ALLOW_COPY_TO_PROD:
        raise PolicyError(
            f"Copying into {operation.target} is not allowed here.",
            hint="DBOPS_ALLOW_COPY_TO_PROD=true allows it, with --confirm.",
        )


def unmasked_origin(kind: str, source: str, target: str, options: Mapping[str, Any]) -> str:
    """The protected environment whose data would arrive in another one unmasked; "" for none."""
    origin = source
    if kind == Operation.Kind.COPY:
        if not travels(options) or masks_copy(source, target, options):
            return ""
    else:
        backup = Backup.objects.filter(name=options.get("name", "")).first()
        origin = backup.origin_for(target) if backup else ""
    return origin if kind in _MOVING and _needs_masks(origin, target) else ""


def masks_copy(source: str, target: str, options: Mapping[str, Any]) -> bool:
    """Whether values are masked on the way: where somebody asked for it, and wherever rows leave a
    protected environment without leave to do so as they are."""
    if options.get("mask"):
        return True
    return travels(options) and _needs_masks(source, target) and not options.get("unmasked")


def travels(options: Mapping[str, Any]) -> bool:
    """Whether a copy takes rows of its source."""
    return options.get("part") != "schema"


def _needs_masks(origin: str, target: str) -> bool:
    return bool(target) and origin != target and is_protected(origin)


def _check_masking(operation: Operation) -> None:
    options = operation.options
    origin = unmasked_origin(operation.kind, operation.source, operation.target, options)
    if origin:
        _require_leave(operation, origin)


def check_origin(operation: Operation, origin: str) -> None:
    """Refuse what the backup's own manifest tells and the catalogue may not have known.

    Raises:
        PolicyError: rows of a protected environment would arrive in another one unmasked.
    """
    if _needs_masks(origin, operation.target):
        _require_leave(operation, origin)


def _require_leave(operation: Operation, origin: str) -> None:
    sentence = f"Patient data of {origin} would arrive in {operation.target} unmasked."
    if not settings.DBOPS_ALLOW_UNMASKED:
        raise PolicyError(sentence, hint="DBOPS_ALLOW_UNMASKED=true would allow --no-mask.")
    if not operation.options.get("unmasked"):
        raise PolicyError(sentence, hint="If that is what you want: --no-mask")


def _check_console(target: str) -> None:
    active = active_environment()
    if ENVIRONMENTS.index(target) > ENVIRONMENTS.index(active):
        raise PolicyError(
            f"This console runs in {active} and does not write to {target}.",
            hint=f"Use the console of {target}, or the command line.",
        )
