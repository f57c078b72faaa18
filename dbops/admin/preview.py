"""What would happen: the content of a confirmation page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from django.conf import settings

from dbops import conf, kinds, policy
from dbops.admin.presentation import age, bytes_text, count_text
from dbops.exceptions import DbopsError, StorageWriteError
from dbops.forms import Wanted
from dbops.models import Backup, Operation
from dbops.operations.copy import plan_copy
from dbops.operations.guards import Endpoint, require_not_newer
from dbops.operations.inspection import (
    InspectRequest,
    find_previous,
    plan_in_place,
    plan_replacement,
    server_label,
)

_STRATEGIES = {
    "template": "the server copies the files itself",
    "dump": "dumped and loaded in one pass",
}


@dataclass
class Preview:
    """What a confirmation page says: (name, value) lines, warnings, and why it would be refused."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    origin: str = ""
    """The environment a backup was made of."""
    warnings: list[str] = field(default_factory=list)
    refusal: DbopsError | None = None


def preview(wanted: Wanted) -> Preview:
    """Look at everything concerned without writing; a refusal is part of the answer."""
    found = Preview()
    try:
        policy.check_policy(_unsaved(wanted), confirm=wanted.target)
        _PREVIEWS[wanted.kind](wanted, found)
    except DbopsError as error:
        found.refusal = error
    except OSError as error:
        found.refusal = StorageWriteError(f"The backup storage cannot be read: {error.strerror}.")
    return found


def is_allowed(kind: str, target: str) -> bool:
    """True where this console may do that to ``target``, once its name is typed if need be."""
    try:
        policy.check_policy(Operation(kind=kind, target=target, door="admin"), confirm=target)
    except DbopsError:
        return False
    return True


def inspect_request(environment: str) -> InspectRequest:
    """The request to look at an environment. Raises ConfigurationError."""
    return InspectRequest(environment, conf.database_params(environment))


def _unsaved(wanted: Wanted) -> Operation:
    return Operation(
        kind=wanted.kind, source=wanted.source, target=wanted.target,
        options=dict(wanted.options), door="admin",
    )  # fmt: skip


def _backup(wanted: Wanted, found: Preview) -> None:
    endpoint = plan_in_place(inspect_request(wanted.source), writing=False)
    last = Backup.objects.filter(environment=wanted.source).first()
    found.lines += [
        ("What", _described(endpoint)),
        ("To", "a new file in the backup storage, compressed and signed"),
        ("Last backup", age(last.created_at) if last else "never"),
        ("Replaces", "nothing; people can go on working"),
    ]


def _restore(wanted: Wanted, found: Preview) -> None:
    backup = Backup.objects.get(name=wanted.options["name"])
    found.origin = backup.environment
    manifest = conf.backup_store().read_manifest(backup.name)
    endpoint = plan_replacement(inspect_request(wanted.target))
    require_not_newer(backup.name, manifest.server_major, endpoint.server)
    found.lines += [
        ("Backup", backup.name),
        ("Made", f"{age(backup.created_at)} ({backup.created_at:%d %B %Y, %H:%M} UTC)"),
        ("Of", f"{backup.environment}, PostgreSQL {backup.server_version}"),
        (
            "Holds",
            f"{count_text(backup.rows)} rows in {count_text(backup.tables)} tables, "
            f"{bytes_text(backup.size)} compressed",
        ),
    ]
    if backup.environment != wanted.target and policy.is_protected(backup.environment):
        found.warnings.append(
            f"Personal data of {backup.environment} arrives in {wanted.target} unmasked."
        )
    _tell_replacement(endpoint, found)


def _copy(wanted: Wanted, found: Preview) -> None:
    plan = plan_copy(kinds.copy_request(wanted.source, wanted.target, wanted.options))
    found.lines += [
        ("From", _described(plan.source)),
        ("How", f"{_STRATEGIES.get(plan.strategy, '')} (strategy {plan.strategy})"),
    ]
    if policy.is_protected(wanted.source):
        found.warnings.append(
            f"Personal data of {wanted.source} arrives in {wanted.target} unmasked."
        )
    _tell_replacement(plan.target, found)


def _triggers(wanted: Wanted, found: Preview) -> None:
    endpoint = plan_in_place(inspect_request(wanted.target), writing=True)
    found.lines += [
        ("Where", _described(endpoint)),
        ("What", "created and updated: when and by whom, on every table with those columns"),
        ("How", "in one transaction; foreign triggers are left alone"),
        ("Replaces", "no rows; older versions of our own triggers"),
    ]


def _undo(wanted: Wanted, found: Preview) -> None:
    request = inspect_request(wanted.target)
    previous = find_previous(request, wanted.options["operation"])
    found.lines.append(("Comes back", f"{previous.name}, {bytes_text(previous.size)}"))
    _tell_replacement(plan_replacement(request), found)


def _tell_replacement(endpoint: Endpoint, found: Preview) -> None:
    if endpoint.database is None:
        found.lines.append(("Replaces", f"nothing: {server_label(endpoint.params)} is made anew"))
        return
    found.lines += [
        ("Replaces", _described(endpoint)),
        (
            "Undo",
            f"the replaced database is kept for {settings.DBOPS_KEEP_PREVIOUS_DAYS} days, or "
            f"until {endpoint.environment} is replaced again",
        ),
    ]
    if endpoint.environment == conf.active_environment():
        found.warnings.append(
            "This console keeps its accounts in that database: you will be signed out, and sign "
            "in again as somebody the new one knows."
        )


def _described(endpoint: Endpoint) -> str:
    size = f", {bytes_text(endpoint.database.size)}" if endpoint.database else ""
    return f"{endpoint.environment}: {server_label(endpoint.params)}{size}"


_PREVIEWS: Mapping[str, Callable[[Wanted, Preview], None]] = {
    Operation.Kind.BACKUP: _backup,
    Operation.Kind.RESTORE: _restore,
    Operation.Kind.COPY: _copy,
    Operation.Kind.TRIGGERS: _triggers,
    Operation.Kind.UNDO: _undo,
}
