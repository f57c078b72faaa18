"""Restore a backup, or a dump made elsewhere: aside, proven, swapped in, the old one kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dbops.backups.codec import Meter, decompress
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore, read_chunks
from dbops.exceptions import (
    BackupInvalidError,
    BackupNotFoundError,
    DbopsError,
    ForeignDumpError,
)
from dbops.operations.context import OperationContext
from dbops.operations.guards import (
    Endpoint,
    check_stamp,
    inspect_endpoint,
    require_available,
    require_can_replace,
    require_not_newer,
)
from dbops.operations.replacement import (
    Replacement,
    building,
    owner_options,
    prove,
    settle,
    swap_in,
)
from dbops.postgres import archive
from dbops.postgres.connection import execute, session
from dbops.postgres.databases import MAINTENANCE, touched_shared_catalogs
from dbops.postgres.fingerprint import Fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import CHUNK
from dbops.postgres.script import check_script, load_script, open_script
from dbops.postgres.tools import find_tool

_PUBLIC = "SELECT set_config('search_path', 'public, pg_catalog', false)"


@dataclass(frozen=True)
class RestoreRequest:
    """What to restore and where to: either ``name`` or ``path``."""

    database: ConnectionParams
    environment: str
    store: BackupStore
    name: str = ""
    """A backup in the store; its manifest must be valid."""
    path: Path | None = None
    """A dump made elsewhere: pg_dump's custom archive or plain SQL, also compressed."""
    pg_bin: Path | None = None


@dataclass(frozen=True)
class RestoreResult:
    """What stands in the target now."""

    source: str
    database: str
    previous: str | None
    rows: int
    tables: int
    outage_ms: float


def restore_database(request: RestoreRequest, context: OperationContext) -> RestoreResult:
    """Verify the source, load it beside the target, prove it, and only then swap.

    Raises:
        BackupInvalidError, BackupNotFoundError, ForeignDumpError: the source is refused.
        StampError, PrivilegeError, PreflightError, VersionMismatchError: the target is.
        ToolError, ProofError: what was loaded is not what it should be. The target is as it was.
    """
    endpoint = inspect_endpoint(request.database, request.environment)
    check_stamp(endpoint, writing=True)
    require_can_replace(endpoint)
    if request.path is None:
        return _restore_backup(request, context, endpoint)
    if not request.path.is_file():
        raise BackupNotFoundError(f"There is no file {request.path}.", hint="Check the path.")
    if _is_archive(request.path):
        return _restore_foreign_archive(request, context, endpoint, request.path)
    script = request.path
    return _restore_script(request, context, endpoint, script, lambda: open_script(script))


def _restore_backup(
    request: RestoreRequest, context: OperationContext, endpoint: Endpoint
) -> RestoreResult:
    manifest = request.store.read_manifest(request.name)
    if manifest.excluded:
        raise BackupInvalidError(
            f"{manifest.name} is partial ({' '.join(manifest.excluded)}): it cannot take the "
            f"place of a whole database."
        )
    require_not_newer(manifest.name, manifest.server_major, endpoint.server)
    verify_checksum(request.store, manifest, context)
    with session(request.database.with_database(MAINTENANCE)) as control:
        require_available(
            control, extensions=manifest.content.extensions, grantees=list(manifest.grantees)
        )
        options = owner_options(control, list(manifest.owners), context)
    meter = Meter()
    with building(endpoint, context) as replacement:
        with request.store.reading(manifest.name) as chunks:
            watched = _watched(meter.watch(chunks), context, manifest.size)
            _load_archive(request, replacement, context, watched, options)
        if meter.sha256 != manifest.sha256:
            raise BackupInvalidError(f"{manifest.name} changed while it was read.")
        return _finish(replacement, context, manifest.name, manifest.content)


def verify_checksum(store: BackupStore, manifest: Manifest, context: OperationContext) -> None:
    """Read the whole file and compare size and sha256 with the manifest.

    Raises:
        BackupInvalidError: truncated or altered.
    """
    meter = Meter()
    with store.reading(manifest.name) as chunks:
        for _ in meter.watch(chunks):
            context.step("verify", meter.size, manifest.size)
    if meter.size != manifest.size:
        raise BackupInvalidError(
            f"{manifest.name} holds {meter.size} of {manifest.size} bytes: it is truncated "
            f"or was replaced."
        )
    if meter.sha256 != manifest.sha256:
        raise BackupInvalidError(f"{manifest.name} is damaged: its checksum does not match.")


def _watched(chunks: Iterator[bytes], context: OperationContext, total: int) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        context.step("load", done, total)
        yield chunk


def _load_archive(
    request: RestoreRequest,
    replacement: Replacement,
    context: OperationContext,
    chunks: Iterator[bytes],
    options: tuple[str, ...],
) -> None:
    pg_restore = find_tool("pg_restore", replacement.target.server.major, request.pg_bin)
    context.step("create")
    replacement.create_empty()
    archive.restore(
        pg_restore,
        replacement.incoming,
        decompress(chunks),
        poll=context.check_cancelled,
        options=options,
    )


def _is_archive(path: Path) -> bool:
    return next(_inflated(path), b"").startswith(archive.MAGIC)


def _inflated(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from decompress(read_chunks(file))


def _restore_foreign_archive(
    request: RestoreRequest, context: OperationContext, endpoint: Endpoint, path: Path
) -> RestoreResult:
    pg_restore = find_tool("pg_restore", endpoint.server.major, request.pg_bin)
    facts = archive.read_contents(pg_restore, _inflated(path), context.check_cancelled)
    require_not_newer(path.name, facts.server_major, endpoint.server)
    with session(request.database.with_database(MAINTENANCE)) as control:
        require_available(control, extensions=facts.extensions, grantees=[])

    def as_script() -> IO[bytes]:
        script = archive.ArchiveScript(pg_restore, _inflated(path), context.check_cancelled)
        return io.BufferedReader(script, CHUNK)

    return _restore_script(request, context, endpoint, path, as_script)


def _restore_script(
    request: RestoreRequest,
    context: OperationContext,
    endpoint: Endpoint,
    path: Path,
    open_stream: Callable[[], IO[bytes]],
) -> RestoreResult:
    if endpoint.server.superuser:
        raise ForeignDumpError(
            f"{path.name} was made elsewhere and is not run by a superuser, who may do anything "
            f"on the server.",
            hint="Connect as an ordinary role that owns the database and has CREATEDB.",
        )
    context.step("check")
    check_script(open_stream, path.name, poll=context.check_cancelled)
    with building(endpoint, context) as replacement:
        context.step("create")
        replacement.create_empty()
        context.step("load")
        with (
            session(replacement.incoming, application=context.application) as connection,
            open_stream() as stream,
        ):
            # Hand-written scripts expect what psql gives them; pg_dump's set their own path first.
            execute(connection, _PUBLIC)
            connection.autocommit = False
            load_script(
                stream,
                connection,
                server_major=endpoint.server.major,
                poll=context.check_cancelled,
                name=path.name,
            )
            if touched := touched_shared_catalogs(connection):
                raise ForeignDumpError(
                    f"{path.name} would have changed roles or other databases of the server "
                    f"({', '.join(touched)})."
                )
            connection.commit()
        return _finish(replacement, context, path.name, None)


def _finish(
    replacement: Replacement,
    context: OperationContext,
    source: str,
    expected: Fingerprint | None,
) -> RestoreResult:
    settle(replacement, context)
    proven = prove(replacement, expected, context)
    if expected and proven.trigger_digest != expected.trigger_digest:
        raise DbopsError(f"The triggers of {source} did not arrive as they were.")
    swapped = swap_in(replacement, context)
    return RestoreResult(
        source=source,
        database=replacement.target.params.database,
        previous=swapped.previous,
        rows=proven.rows,
        tables=len(proven.tables),
        outage_ms=round(swapped.outage_ms, 1),
    )
