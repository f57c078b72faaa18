"""What is allowed: protected environments, directions of copying, what a console may write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from dbops.conf import active_environment
from dbops.exceptions import ConfirmationError, PolicyError
from dbops.models import Backup, Operation
from skinspire.environment import ENVIRONMENTS

_READING = {Operation.Kind.BACKUP}


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
    if operation.door != "cli" and kind not in _READING:
        _check_console(target)
    require_typed_name(kind, target, confirm)


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
    if kind == Operation.Kind.RESTORE:
        backup = Backup.objects.filter(name=options.get("name", "")).first()
        origin = backup.environment if backup else ""
    moves = kind in (Operation.Kind.COPY, Operation.Kind.RESTORE) and origin != target
    return origin if moves and is_protected(origin) else ""


def _check_masking(operation: Operation) -> None:
    origin = unmasked_origin(operation.kind, operation.source, operation.target, operation.options)
    if origin and not operation.options.get("unmasked"):
        raise PolicyError(
            f"Patient data of {origin} would arrive in {operation.target} unmasked.",
            hint="If that is what you want: --no-mask",
        )


def _check_console(target: str) -> None:
    active = active_environment()
    if ENVIRONMENTS.index(target) > ENVIRONMENTS.index(active):
        raise PolicyError(
            f"This console runs in {active} and does not write to {target}.",
            hint=f"Use the console of {target}, or the command line.",
        )
