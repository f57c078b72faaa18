"""What would happen: the content of a confirmation page."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from django.conf import settings

from dbops import conf, policy
from dbops.admin.presentation import (
    age,
    bytes_text,
    count_text,
    holdings_text,
    moment_text,
    proof_text,
    seconds_text,
)
from dbops.backups.manifest import Manifest
from dbops.catalogue import expected_seconds
from dbops.exceptions import BackupInvalidError, DbopsError, StorageWriteError
from dbops.forms import Wanted
from dbops.kinds.copies import copy_request
from dbops.models import Backup, Operation
from dbops.operations.context import OperationContext
from dbops.operations.copy_plan import plan_copy, survey_copy
from dbops.operations.guards import (
    Endpoint,
    Preflight,
    inspect_endpoint,
    require_can_replace,
    require_existing,
    require_not_newer,
)
from dbops.operations.inspection import (
    InspectRequest,
    find_previous,
    plan_in_place,
    plan_replacement,
    server_label,
)
from dbops.operations.restore import RestoreRequest, open_source
from dbops.postgres.connection import session
from dbops.postgres.databases import MAINTENANCE
from dbops.wording import counted

_STRATEGIES = {
    "template": "the server copies the files itself",
    "stream": "table by table, several side by side, under one snapshot",
    "dump": "dumped and loaded in one pass",
}
_PARTS = {
    "full": "everything",
    "schema": "the schema; the target keeps its own rows",
    "data": "the rows; the target keeps its own schema",
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
    return InspectRequest(environment, conf.configured_params(environment), conf.trigger_wishes())


def _unsaved(wanted: Wanted) -> Operation:
    return Operation(
        kind=wanted.kind, source=wanted.source, target=wanted.target,
        options=dict(wanted.options), door="admin",
    )  # fmt: skip


def _backup(wanted: Wanted, found: Preview) -> None:
    endpoint = plan_in_place(inspect_request(wanted.source), writing=False)
    last = Backup.objects.filter(environment=wanted.source, partial=False).first()
    found.lines += [
        ("What", _described(endpoint)),
        ("To", "a new file in the backup storage, compressed and signed"),
        ("Last backup", age(last.created_at) if last else "never"),
        ("Replaces", "nothing; people can go on working"),
    ]


def _restore(wanted: Wanted, found: Preview) -> None:
    backup = _tell_backup(wanted, found)
    tables = tuple(wanted.options.get("tables", ()))
    manifest = conf.backup_store().read_manifest(backup.name)
    request = inspect_request(wanted.target)
    endpoint = plan_replacement(request)
    asked = RestoreRequest(
        database=request.database,
        environment=wanted.target,
        store=conf.backup_store(),
        save=lambda _: "",  # nothing is restored from here
        name=backup.name,
        tables=tables,
    )
    open_source(asked, OperationContext(""))  # refuses a partial backup that lacks what is asked
    _look_at_server(wanted, manifest, endpoint)
    origin = backup.origin_for(wanted.target)
    if origin != wanted.target and policy.is_protected(origin):
        found.warnings.append(f"Personal data of {origin} arrives in {wanted.target} unmasked.")
    if tables:
        _tell_tables(tables, manifest, endpoint, found)
    else:
        _tell_replacement(endpoint, found)
    _tell_owners(wanted, manifest, endpoint, found)


def _tell_backup(wanted: Wanted, found: Preview) -> Backup:
    backup = Backup.objects.get(name=wanted.options["name"])
    found.origin = backup.environment
    found.lines += [
        ("Backup", backup.name),
        ("Made", moment_text(backup.created_at)),
        ("Of", f"{backup.environment}, PostgreSQL {backup.server_version}"),
        ("Holds", holdings_text(backup)),
        ("Verified", proof_text(backup) or "never"),
    ]
    return backup


def _look_at_server(wanted: Wanted, manifest: Manifest, endpoint: Endpoint) -> None:
    problems = Preflight()
    problems.require_not_newer(manifest.name, manifest.server_major, endpoint.server)
    with session(endpoint.params.with_database(MAINTENANCE)) as control:
        problems.require_extensions(control, manifest.content.extensions)
        if not wanted.options.get("no_owner"):
            problems.require_roles(control, list(manifest.owners), list(manifest.grantees))
    problems.check()


def _tell_tables(
    tables: tuple[str, ...], manifest: Manifest, endpoint: Endpoint, found: Preview
) -> None:
    require_existing(endpoint)
    held = manifest.content.tables
    for table in tables:
        if table not in held:
            near = _nearest(table, held)
            ending = f" Did you mean {', '.join(near)}?" if near else ""
            found.warnings.append(f"The backup counts no rows of {table}.{ending}")
    rows = {it: counted(held[it], "row", write=count_text) for it in tables if it in held}
    counts = ", ".join(f"{table} ({count})" for table, count in rows.items())
    found.lines += [
        ("In", _described(endpoint)),
        ("Replaces", f"only {', '.join(tables)}; the rest stays as it is"),
        ("By", counts or "what the backup holds of it"),
        ("Meanwhile", "built aside first; then the tables are locked for a moment"),
        ("Way back", "they are backed up first, and restored from that backup"),
    ]


def _nearest(table: str, held: Collection[str]) -> list[str]:
    """The tables of that name in other schemas, or else of nearly that name."""
    named = [it for it in held if it.split(".", 1)[1] == table.split(".", 1)[1]]
    return named[:3] or difflib.get_close_matches(table, held, 3, cutoff=0.8)


def _tell_owners(wanted: Wanted, manifest: Manifest, endpoint: Endpoint, found: Preview) -> None:
    server = endpoint.server
    privileged = "" if server.superuser else ", ".join(map(_readable, manifest.privileged))
    if wanted.options.get("no_owner"):
        found.lines.append(("Owner", f"everything belongs to {server.role}"))
    if wanted.options.get("skip_privileged"):
        found.lines.append(("Leaves out", privileged or "nothing: there is no need"))
    elif privileged:
        found.warnings.append(
            f"Only a superuser can restore what it holds: {privileged}. It will be refused unless "
            f"that is left out (under More)."
        )


def _readable(entry: str) -> str:
    kind, _, name = entry.partition(" - ")
    return f"{kind.lower()} {name}"


def _verify(wanted: Wanted, found: Preview) -> None:
    backup = _tell_backup(wanted, found)
    found.lines.append(("Checks", "its signature, and its checksum by reading all of it"))
    try:
        manifest = conf.backup_store().read_manifest(backup.name)
    except BackupInvalidError as error:  # that is what a verification is there to put on record
        found.warnings.append(f"{error} Verifying it will fail and say so.")
        return
    if wanted.options.get("full"):
        _tell_rehearsal(wanted, manifest, found)
    found.lines.append(("Replaces", "nothing; people can go on working"))


def _tell_rehearsal(wanted: Wanted, manifest: Manifest, found: Preview) -> None:
    params = conf.database_params(wanted.target)
    endpoint = inspect_endpoint(params, wanted.target)
    require_can_replace(endpoint)
    require_not_newer(manifest.name, manifest.server_major, endpoint.server)
    rows = "rows and their checksums" if manifest.content.checksums is not None else "rows"
    found.lines += [
        ("Compares", f"{rows}, structure, sequences, triggers and grants"),
        (
            "Where",
            f"in a scratch database beside {server_label(params)}, about "
            f"{bytes_text(manifest.database_size)}, dropped again at the end",
        ),
    ]


def _copy(wanted: Wanted, found: Preview) -> None:
    request = copy_request(wanted.source, wanted.target, wanted.options)
    plan = plan_copy(request)
    survey = survey_copy(request, plan)
    seconds = expected_seconds(wanted.source, wanted.target, plan.strategy, survey.bytes)
    found.lines += [
        ("From", _described(plan.source)),
        ("What", f"{_PARTS[request.part]}: about "
                 f"{counted(survey.rows, 'row', write=count_text)} in "
                 f"{counted(survey.tables, 'table')}, {bytes_text(survey.bytes)}"),
        ("How", f"{_STRATEGIES[plan.strategy]} (strategy {plan.strategy}: {plan.reason})"),
        ("Takes", f"about {seconds_text(seconds)}"),
    ]  # fmt: skip
    if request.masking is not None:
        found.lines.append(
            (
                "Masked",
                f"{counted(survey.masked_columns, 'column')} of "
                f"{counted(len(survey.masks), 'table')}",
            )
        )
    elif request.protected and request.part != "schema":
        found.warnings.append(
            f"Personal data of {wanted.source} arrives in {wanted.target} unmasked."
        )
    for name, tables in (("Arrive empty", survey.emptied), ("Keep their rows", survey.preserved)):
        if tables:
            found.lines.append((name, ", ".join(tables)))
    found.lines += [("Note", note) for note in survey.notes]
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
    Operation.Kind.VERIFY: _verify,
}
