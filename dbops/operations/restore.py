"""Restore a backup, or a dump made elsewhere: aside, proven, swapped in, the old one kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from dbops.backups.earlier import is_earlier_backup
from dbops.backups.encryption import Keys
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore
from dbops.exceptions import (
    BackupInvalidError,
    DbopsError,
    PreflightError,
    ProofError,
    UsageError,
)
from dbops.operations.context import OperationContext
from dbops.operations.defuse import Arriving, defuse, forget_history
from dbops.operations.foreign_source import foreign_file, stored_dump
from dbops.operations.guards import (
    Endpoint,
    Preflight,
    check_stamp,
    inspect_endpoint,
    require_can_replace,
)
from dbops.operations.replacement import building, prove, settle, swap_in
from dbops.operations.restore_in_place import restore_in_place
from dbops.operations.restore_objects import Chosen, Save, require_held, restore_objects
from dbops.operations.restore_source import BackupSource, LoadOptions, Source
from dbops.postgres import triggers
from dbops.postgres.connection import session
from dbops.postgres.database_properties import portable
from dbops.postgres.databases import DatabaseFacts
from dbops.postgres.params import ConnectionParams


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore, where to, and how much of it: either ``name`` or ``path``."""

    database: ConnectionParams
    environment: str
    store: BackupStore
    save: Save
    """How what is replaced without a swap is backed up before: nothing else keeps it."""
    name: str = ""
    """A backup in the store; its manifest must be valid."""
    path: Path | None = None
    """A dump made elsewhere, in any of pg_dump's formats, also compressed or encrypted."""
    keys: Keys = field(default_factory=Keys)
    load: LoadOptions = field(default_factory=LoadOptions)
    fresh: bool = False
    """``database`` must not exist yet."""
    tables: tuple[str, ...] = ()
    """Only these tables ("schema.table") are replaced, in one transaction; () for everything."""
    schemas: tuple[str, ...] = ()
    """Only these schemas are, likewise."""
    in_place: bool = False
    """Everything is replaced in one transaction: for a role that may not create databases."""
    arriving: Arriving = field(default_factory=Arriving)
    migrate: Callable[[ConnectionParams], tuple[str, ...]] | None = None
    """Brings what was restored to this code's migrations before it takes its place; None leaves it
    as it was backed up."""


@dataclass(frozen=True)
class RestoreResult:
    """What stands in the target now."""

    source: str
    database: str
    previous: str | None
    rows: int
    tables: int
    outage_ms: float
    saved_as: str | None = None
    """The backup that holds what was replaced in place."""
    defused: Mapping[str, int] = field(default_factory=dict)
    """Rows emptied because they mean nothing in another environment, per table."""
    migrations: tuple[str, ...] = ()
    """Applied before it took its place."""


def restore_database(request: RestoreRequest, context: OperationContext) -> RestoreResult:
    """Look at source and target, load the source beside the target, prove it, and only then swap.

    Raises:
        BackupInvalidError, BackupNotFoundError, ForeignDumpError, BackupEncryptedError: the
            source is refused.
        StampError, PrivilegeError, PreflightError, SpaceError, VersionMismatchError: the target.
        ToolError, ProofError: what was loaded is not what it should be. The target is as it was.
    """
    context.step("preflight")
    _check_request(request)
    endpoint = inspect_endpoint(request.database, request.environment)
    check_stamp(endpoint, writing=True)
    source = open_source(request, context)
    problems = Preflight()
    _look_at_target(request, endpoint, problems)
    problems.require_space(endpoint.server, source.size)
    source.look(endpoint, problems)
    problems.check()
    if request.tables or request.schemas:
        chosen = Chosen(request.tables, request.schemas)
        pg_bin = request.load.pg_bin
        replaced = restore_objects(
            endpoint, source, chosen, request.save, pg_bin, request.arriving, context
        )
    elif request.in_place:
        replaced = restore_in_place(
            endpoint, source, lambda: request.save(()), request.arriving, context
        )
    else:
        return _restore_whole(request, endpoint, source, context)
    return RestoreResult(
        source=source.name,
        database=request.database.database,
        previous=None,
        rows=replaced.rows,
        tables=replaced.tables,
        outage_ms=round(replaced.outage_ms, 1),
        saved_as=replaced.saved_as,
        defused=replaced.defused,
    )


def look_at_source(request: RestoreRequest, context: OperationContext) -> None:
    """Before anybody is asked: whether what is to be restored exists, and holds what is named.

    Raises:
        UsageError, BackupNotFoundError, BackupInvalidError, ForeignDumpError: the source, as
            :func:`restore_database`.
    """
    _check_request(request)
    source = open_source(request, context)
    if request.tables or request.schemas:
        endpoint = inspect_endpoint(request.database, request.environment)
        require_held(source, Chosen(request.tables, request.schemas), endpoint)


def _check_request(request: RestoreRequest) -> None:
    partly = bool(request.tables or request.schemas)
    if request.tables and request.schemas:
        raise UsageError("--table and --schema exclude each other.")
    if request.fresh and (partly or request.in_place):
        raise UsageError("--into makes a whole new database: no --table, --schema, --in-place.")
    for schema in (*request.schemas, *(table.split(".", 1)[0] for table in request.tables)):
        if schema in ("skinspire", "information_schema") or schema.startswith("pg_"):
            raise UsageError(f"Schema {schema} is no user's: it is never restored by itself.")
    if request.in_place and request.load.skip_privileged:
        raise UsageError("--in-place restores all or nothing: no --skip-privileged.")
    if request.migrate and (partly or request.in_place):
        raise UsageError("--migrate is for a whole database that is restored aside.")
    if partly and request.in_place:
        raise UsageError("--in-place replaces everything: no --table, no --schema.")


def open_source(request: RestoreRequest, context: OperationContext) -> Source:
    """What the request names. Raises BackupNotFoundError, BackupInvalidError, ForeignDumpError."""
    if request.path is not None:
        return foreign_file(request.path, request.keys, request.load, context)
    if is_earlier_backup(request.store, request.name):
        context.log(f"{request.name} bears no signature: it is read before it runs")
        return stored_dump(request.store, request.name, request.keys, request.load, context)
    manifest = request.store.read_manifest(request.name)
    if manifest.excluded and not _covered(request, manifest):
        raise BackupInvalidError(
            f"{manifest.name} is partial ({' '.join(manifest.excluded)}): it cannot take the "
            f"place of a whole database.",
            hint="Tables whose rows it holds are restored from it by --table.",
        )
    return BackupSource(request.store, manifest, request.keys, request.load, context)


def _covered(request: RestoreRequest, manifest: Manifest) -> bool:
    """Whether a partial backup holds all that is asked of it: tables, their rows included."""
    rows_only = all(option.startswith("--rows-of=") for option in manifest.excluded)
    held = manifest.content.tables.keys()
    return rows_only and bool(request.tables) and set(request.tables) <= held


def _look_at_target(request: RestoreRequest, endpoint: Endpoint, problems: Preflight) -> None:
    name = request.database.database
    if request.fresh and endpoint.database is not None:
        raise PreflightError(
            f"There is a database {name} already.", hint="--into takes the name of a new one."
        )
    if (request.tables or request.schemas or request.in_place) and endpoint.database is None:
        raise PreflightError(
            f"The {request.environment} database {name} does not exist.",
            hint="Restore it whole: without --table, --schema and --in-place",
        )
    if not request.in_place:
        try:
            require_can_replace(endpoint)
        except DbopsError as error:
            problems.add(error)


def _restore_whole(
    request: RestoreRequest, endpoint: Endpoint, source: Source, context: OperationContext
) -> RestoreResult:
    with building(endpoint, context, _like(source, endpoint)) as replacement:
        context.step("create")
        replacement.create_empty()
        source.load(replacement.incoming)
        expected = source.expected
        with session(replacement.incoming, application=context.application) as connection:
            unmasked = request.arriving.looked_at(connection, request.environment)
            meaningless = request.arriving.meaningless(connection, request.environment)
            forget_history(connection, context, request.environment)
            if expected is None:
                triggers.close(connection)
        with ThreadPoolExecutor(1) as pool:  # neither minds the other, and each takes a while
            settled = pool.submit(settle, replacement, context, unmasked)
            proven = prove(replacement, expected, context)
            settled.result()
        if expected and proven.trigger_digest != expected.trigger_digest:
            raise ProofError(f"The triggers of {source.name} did not arrive as they were.")
        with session(replacement.incoming, application=context.application) as connection:
            defused = defuse(connection, meaningless, context)
        applied = request.migrate(replacement.incoming) if request.migrate else ()
        swapped = swap_in(replacement, context)
    return RestoreResult(
        source=source.name,
        database=replacement.target.params.database,
        previous=swapped.previous,
        rows=proven.rows - sum(defused.values()),
        tables=len(proven.tables),
        outage_ms=round(swapped.outage_ms, 1),
        defused=defused,
        migrations=applied,
    )


def _like(source: Source, endpoint: Endpoint) -> DatabaseFacts | None:
    """What a database that is gone, or new, takes its own properties from."""
    if isinstance(source, BackupSource) and source.manifest.properties is not None:
        facts = DatabaseFacts.from_json(source.manifest.properties)
        return replace(portable(facts, endpoint.server.role), name=endpoint.params.database)
    return None
