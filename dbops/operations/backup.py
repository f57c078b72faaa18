"""Back up one environment: a standard archive as a stream, its manifest last."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from dbops.backups.codec import Meter, compress
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore, check_new_name
from dbops.exceptions import BackupInvalidError, OperationCancelled, ToolError
from dbops.operations.context import OperationContext
from dbops.operations.guards import Endpoint, check_stamp, inspect_endpoint, require_existing
from dbops.postgres import archive, catalog
from dbops.postgres.connection import session
from dbops.postgres.fingerprint import Fingerprint, take_fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child
from dbops.postgres.snapshot import Snapshot, exported_snapshot
from dbops.postgres.tools import find_tool


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
    pg_bin: Path | None = None


@dataclass(frozen=True)
class BackupResult:
    """The backup as its manifest describes it."""

    manifest: Manifest


@dataclass(frozen=True)
class _Dumped:
    fingerprint: Fingerprint
    owners: list[str]
    grantees: list[str]
    migrations: list[str]


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
    pg_dump = find_tool("pg_dump", endpoint.server.major, request.pg_bin)
    meter = Meter()
    with exported_snapshot(request.database, application=context.application) as snapshot:
        dumped = _dump(request, context, pg_dump, snapshot, endpoint, name, meter)
    manifest = _manifest(request, context, endpoint, dumped, name, meter, began)
    context.step("seal")
    context.begin_commit()
    try:
        request.store.seal(manifest)
    except BaseException:
        request.store.forget(name)
        raise
    return BackupResult(manifest)


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
    return f"{stem}.dump.zst"


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
            pg_dump, request.database, snapshot=snapshot.id, options=_options(request)
        ) as child,
    ):
        # Counting looks through the same snapshot while pg_dump reads, so the two agree.
        given_up = threading.Event()
        counting = pool.submit(_look, snapshot, request, context, given_up)
        written = False
        try:
            chunks = compress(_dumped_chunks(child, context, total))
            request.store.write(name, meter.watch(chunks), operation=context.operation_id)
            written = True
            return counting.result()
        except BaseException as error:
            given_up.set()
            snapshot.connection.cancel()
            if written:  # else the name may be another backup's
                request.store.forget(name)
            if isinstance(error, ToolError):
                _name_locked_tables(request, error)
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
    fingerprint = take_fingerprint(connection, poll)
    tables = {
        table: 0 if _matches(table, request.without_rows_of) else rows
        for table, rows in fingerprint.tables.items()
        if not request.schemas or table.split(".")[0] in request.schemas
    }
    return _Dumped(
        replace(fingerprint, tables=tables),
        catalog.owners(connection),
        catalog.grantees(connection),
        catalog.applied_migrations(connection),
    )


def _matches(table: str, patterns: tuple[str, ...]) -> bool:
    name = table.split(".", 1)[1]
    return any(
        fnmatch.fnmatchcase(table, pattern) or fnmatch.fnmatchcase(name, pattern)
        for pattern in patterns
    )


def _options(request: BackupRequest) -> tuple[str, ...]:
    excluded = tuple(f"--exclude-table-data={pattern}" for pattern in request.without_rows_of)
    return excluded + tuple(f"--schema={schema}" for schema in request.schemas)


def _manifest(
    request: BackupRequest,
    context: OperationContext,
    endpoint: Endpoint,
    dumped: _Dumped,
    name: str,
    meter: Meter,
    began: datetime,
) -> Manifest:
    return Manifest(
        name=name,
        environment=request.environment,
        database=request.database.database,
        created_at=began.isoformat(timespec="microseconds"),
        seconds=round((datetime.now(UTC) - began).total_seconds(), 3),
        size=meter.size,
        sha256=meter.sha256,
        encrypted=False,
        server_version=endpoint.server.version,
        server_major=endpoint.server.major,
        dump_version=endpoint.server.major,
        fingerprint=dumped.fingerprint.to_json(),
        owners=dumped.owners,
        grantees=dumped.grantees,
        migrations=dumped.migrations,
        actor=context.actor,
        operation=context.operation_id,
        excluded=_options(request),
    )
