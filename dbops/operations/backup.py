"""Back up one environment: a standard archive as a stream, its manifest last."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbops.backups.codec import Meter, compress
from dbops.backups.encryption import Keys, encrypt
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore, check_new_name
from dbops.exceptions import BackupInvalidError, OperationCancelled, SpaceError, ToolError
from dbops.operations.context import OperationContext
from dbops.operations.guards import (
    Endpoint,
    check_stamp,
    inspect_endpoint,
    mebibytes,
    require_existing,
)
from dbops.operations.holding import held_snapshot
from dbops.postgres import archive, catalog, roles
from dbops.postgres.connection import session
from dbops.postgres.fingerprint import Fingerprint, standing_still, take_fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child
from dbops.postgres.snapshot import Snapshot
from dbops.postgres.stamp import read_unmasked
from dbops.postgres.tools import find_tool, tool_version
from dbops.postgres.triggers import history


@dataclass(frozen=True)
class BackupRequest:
    """What to back up and where to."""

    database: ConnectionParams
    environment: str
    store: BackupStore
    name: str = ""
    """"" for ``<environment>-<time>-<operation>.dump.zst``."""
    server_name: str = ""
    """Put before the name, as django-dbbackup's ``--servername``."""
    without_rows_of: tuple[str, ...] = ()
    """Tables whose rows are left out (django-dbbackup's ``--exclude-tables``)."""
    schemas: tuple[str, ...] = ()
    """Only these schemas; () for all."""
    rows_of: tuple[str, ...] = ()
    """All definitions, but only the rows of these tables ("schema.table"); () for all rows."""
    keys: Keys | None = None
    """Who can read the backup; None leaves it unencrypted."""
    expected_size: int = 0
    """Bytes the last one took; 0 where there was none."""
    checksums: bool = False
    """Whether the manifest gets a checksum of every table's rows."""
    revision: str = ""
    pg_bin: Path | None = None


@dataclass(frozen=True)
class BackupResult:
    """The backup as its manifest describes it."""

    manifest: Manifest


@dataclass(frozen=True)
class _Dumped:
    fingerprint: Fingerprint
    about: dict[str, Any]
    """Further fields of the manifest."""


def backup_database(request: BackupRequest, context: OperationContext) -> BackupResult:
    """Dump, compress, hash and store in one pass; the manifest makes it a backup.

    Raises:
        PreflightError: the database does not exist.
        StampError: it belongs to another environment.
        ToolError: pg_dump failed. StorageWriteError: the storage did. Nothing of it is kept.
    """
    began = datetime.now(UTC)
    name = request.name or _name(request, context, began)
    check_new_name(name)
    endpoint = inspect_endpoint(request.database, request.environment)
    require_existing(endpoint)
    check_stamp(endpoint, writing=False)
    _require_space(request)
    pg_dump = find_tool("pg_dump", endpoint.server.major, request.pg_bin)
    meter = Meter()
    with held_snapshot(request.database, request.environment, context) as held:
        snapshot = held.snapshot
        dumped = _dump(request, context, pg_dump, snapshot, endpoint, name, meter)
        fingerprint = dumped.fingerprint
        if fingerprint.sequences is not None:
            still = standing_still(snapshot.connection, fingerprint.sequences)
            dumped = replace(dumped, fingerprint=replace(fingerprint, sequences=still))
    manifest = _manifest(request, context, endpoint, pg_dump, dumped, name, meter, began)
    context.step("seal")
    context.begin_commit()
    try:
        request.store.seal(manifest)
    except BaseException:
        request.store.forget(name)
        raise
    return BackupResult(manifest)


def _require_space(request: BackupRequest) -> None:
    free = request.store.free_space()
    if free is not None and request.expected_size > free:
        raise SpaceError(
            f"The last backup of {request.environment} took {mebibytes(request.expected_size)}; "
            f"the backup storage has {mebibytes(free)} free.",
            hint="Make room there: python manage.py prune_backups --dry-run",
        )


def list_backups(store: BackupStore) -> Iterator[Manifest]:
    """Every backup in the storage whose manifest is valid, newest first."""
    return iter(sorted(_valid(store), key=lambda manifest: manifest.created_at, reverse=True))


def _valid(store: BackupStore) -> Iterator[Manifest]:
    for name in store.names():
        try:
            yield store.read_manifest(name)
        except BackupInvalidError:
            continue


def _name(request: BackupRequest, context: OperationContext, began: datetime) -> str:
    # The operation's id keeps two backups of one second apart.
    prefix = f"{request.server_name}-" if request.server_name else ""
    stem = f"{prefix}{request.environment}-{began:%Y%m%dT%H%M%SZ}-{context.operation_id}"
    return f"{stem}.dump.zst{_suffix(request)}"


def _suffix(request: BackupRequest) -> str:
    return f".{request.keys.kind}" if request.keys else ""


def _dump(
    request: BackupRequest,
    context: OperationContext,
    pg_dump: Path,
    snapshot: Snapshot,
    endpoint: Endpoint,
    name: str,
    meter: Meter,
) -> _Dumped:
    total = endpoint.database.size if endpoint.database else None
    context.step("dump", 0, total)
    with (
        ThreadPoolExecutor(1) as pool,
        archive.dump(
            pg_dump,
            request.database,
            snapshot=snapshot.id,
            options=_pg_dump_options(request, snapshot),
        ) as child,
    ):
        # Counting looks through the same snapshot while pg_dump reads, so the two agree.
        given_up = threading.Event()
        counting = pool.submit(_look, snapshot, request, context, given_up)
        written = False
        try:
            chunks = compress(_dumped_chunks(child, context, total))
            if request.keys:
                chunks = encrypt(chunks, request.keys, context.check_cancelled)
            request.store.write(name, meter.watch(chunks), operation=context.operation_id)
            written = True
            return counting.result()
        except BaseException as error:
            # The count may have failed first, and taken the snapshot with it.
            first = counting.exception() if counting.done() else None
            given_up.set()
            snapshot.connection.cancel()
            if written:  # else the name may be another backup's
                request.store.forget(name)
            if isinstance(error, ToolError):
                _name_locked_tables(request, error)
                raise first or error from error
            raise


def _name_locked_tables(request: BackupRequest, error: ToolError) -> None:
    """pg_dump locks all tables in one statement and cannot say on which of them it waited."""
    if "timeout" not in str(error):
        return
    with session(request.database) as connection:
        locked = catalog.exclusively_locked(connection)
    if locked:
        raise ToolError(
            f"pg_dump waited {archive.LOCK_WAIT_MS / 1000:.0f} s for {', '.join(locked)}, which "
            f"another session has locked.",
            hint="Let that session end, then run the backup again.",
        ) from error


def _dumped_chunks(child: Child, context: OperationContext, total: int | None) -> Iterator[bytes]:
    done = 0
    for chunk in child.read(context.check_cancelled):
        done += len(chunk)
        context.step("dump", min(done, total) if total else done, total)
        yield chunk
    # A dump that failed must fail the write, before the file gets its name.
    child.wait(context.check_cancelled)


def _look(
    snapshot: Snapshot,
    request: BackupRequest,
    context: OperationContext,
    given_up: threading.Event,
) -> _Dumped:
    def poll() -> None:
        context.check_cancelled()
        if given_up.is_set():
            raise OperationCancelled("The dump has ended; counting on would be in vain.")

    connection = snapshot.connection
    fingerprint = take_fingerprint(connection, poll, checksums=request.checksums)
    return _Dumped(
        _of_what_is_dumped(fingerprint, request),
        {
            "owners": roles.owners(connection),
            "grantees": roles.grantees(connection),
            "migrations": catalog.applied_migrations(connection),
            "extensions": catalog.extension_versions(connection),
            "privileged": roles.privileged_objects(connection),
            "largest_tables": catalog.largest_tables(connection),
            "unmasked": read_unmasked(connection),
        },
    )


def _of_what_is_dumped(fingerprint: Fingerprint, request: BackupRequest) -> Fingerprint:
    """A partial backup is described by its tables alone."""
    if not _options(request):
        return fingerprint
    chosen = {
        table: 0 if _matches(table, request.without_rows_of) else rows
        for table, rows in fingerprint.tables.items()
        if (not request.schemas or table.split(".")[0] in request.schemas)
        and (not request.rows_of or table in request.rows_of)
    }
    return replace(
        fingerprint, tables=chosen, objects=None, sequences=None, grants_digest=None,
        checksums=None, history=None,
    )  # fmt: skip


def _matches(table: str, patterns: tuple[str, ...]) -> bool:
    name = table.split(".", 1)[1]
    return any(
        fnmatch.fnmatchcase(table, pattern) or fnmatch.fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _options(request: BackupRequest) -> tuple[str, ...]:
    excluded = tuple(f"--exclude-table-data={pattern}" for pattern in request.without_rows_of)
    chosen = tuple(f"--schema={archive.pattern(schema)}" for schema in request.schemas)
    rows_of = tuple(f"--rows-of={table}" for table in request.rows_of)
    return excluded + chosen + rows_of


def _pg_dump_options(request: BackupRequest, snapshot: Snapshot) -> tuple[str, ...]:
    options = [option for option in _options(request) if not option.startswith("--rows-of")]
    if request.rows_of:
        options += [
            f"--exclude-table-data={archive.pattern(table.schema, table.name)}"
            for table in catalog.tables(snapshot.connection)
            if table.label not in request.rows_of
        ]
        options.append(history.LEFT_OUT)
    return tuple(options)


def _manifest(
    request: BackupRequest,
    context: OperationContext,
    endpoint: Endpoint,
    pg_dump: Path,
    dumped: _Dumped,
    name: str,
    meter: Meter,
    began: datetime,
) -> Manifest:
    database = require_existing(endpoint)
    return Manifest(
        name=name,
        environment=request.environment,
        database=request.database.database,
        created_at=began.isoformat(timespec="microseconds"),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 3),
        size=meter.size,
        sha256=meter.sha256,
        encrypted=request.keys is not None,
        encryption=request.keys.kind if request.keys else "",
        server_version=endpoint.server.version,
        server_major=endpoint.server.major,
        dump_version=endpoint.server.major,
        tool=tool_version(pg_dump),
        database_size=database.size,
        properties=database.to_json(),
        fingerprint=dumped.fingerprint.to_json(),
        actor=context.actor,
        operation=context.operation_id,
        excluded=_options(request),
        revision=request.revision,
        **dumped.about,
    )
