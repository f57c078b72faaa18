"""Backing up, restoring, verifying, pruning: recorded operations as requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dbbackup import signals
from django.conf import settings
from django.db import connections

from dbops import conf
from dbops.backups.earlier import is_earlier_backup
from dbops.backups.store import read_chunks
from dbops.catalogue import (
    mark_damaged,
    mark_verified,
    origin_of_a_copy,
    record_backup,
    size_of_the_last,
)
from dbops.exceptions import BackupInvalidError
from dbops.kinds.kind import KindOfOperation, Result, Wanted, jobs, lock_nothing
from dbops.kinds.restored_migrations import look_at_migrations, migrating, pending_after
from dbops.models import Backup, Operation
from dbops.operations.backup import BackupRequest, backup_database
from dbops.operations.context import OperationContext
from dbops.operations.defuse import Arriving
from dbops.operations.restore import RestoreRequest, look_at_source, restore_database
from dbops.operations.restore_source import LoadOptions
from dbops.operations.verify import VerifyRequest, verify_backup
from dbops.policy import check_origin, is_protected
from dbops.postgres.params import ConnectionParams
from dbops.pruning import prune
from skinspire.router import CONTROL


def _backup(operation: Operation, context: OperationContext) -> Result:
    request = _backup_request(operation.source, operation.options)
    facts = {"database": settings.DATABASES[operation.source], "connector": None}
    signals.pre_backup.send(sender=Operation, servername=request.server_name, **facts)
    manifest = backup_database(request, context).manifest
    record_backup(manifest)  # first: from now on it is listed, whatever a receiver does
    signals.post_backup.send_robust(
        sender=Operation, servername=request.server_name, filename=manifest.name,
        storage=request.store.storage, **facts,
    )  # fmt: skip
    content = manifest.content
    return {
        "name": manifest.name, "size": manifest.size, "sha256": manifest.sha256,
        "rows": content.rows, "tables": len(content.tables), "encrypted": manifest.encrypted,
    }  # fmt: skip


def _backup_request(environment: str, options: Mapping[str, Any]) -> BackupRequest:
    keys = conf.encryption_keys()
    return BackupRequest(
        database=conf.database_params(environment),
        environment=environment,
        store=conf.backup_store(),
        name=options.get("name", ""),
        server_name=options.get("server_name", ""),
        without_rows_of=tuple(options.get("without_rows_of", ())),
        schemas=tuple(options.get("schemas", ())),
        rows_of=tuple(options.get("rows_of", ())),
        keys=keys if keys.can_encrypt else None,
        expected_size=size_of_the_last(environment),
        checksums=bool(options.get("checksums")),
        revision=conf.code_revision(),
        pg_bin=conf.tools_directory(),
    )


def _restore(operation: Operation, context: OperationContext) -> Result:
    request = _restore_request(operation, context)
    facts = {
        "database": settings.DATABASES[operation.target],
        "database_name": operation.target,
        "filename": request.name or str(request.path),
        "servername": None,
        "storage": request.store.storage,
    }
    if not request.fresh:
        connections[operation.target].close()
    signals.pre_restore.send(sender=Operation, **facts)
    result = restore_database(request, context)
    signals.post_restore.send_robust(sender=Operation, connector=None, **facts)
    return asdict(result) | {"pending_migrations": pending_after(operation, result.migrations)}


def _restore_request(operation: Operation, context: OperationContext) -> RestoreRequest:
    options = operation.options
    return RestoreRequest(
        database=_restored_database(operation),
        environment=operation.target,
        store=conf.backup_store(),
        save=lambda rows_of: back_up_first(operation, context, rows_of),
        name=options.get("name", ""),
        path=Path(options["path"]) if options.get("path") else None,
        keys=conf.encryption_keys(),
        load=_load_options(options),
        fresh=bool(options.get("into")),
        tables=tuple(options.get("tables", ())),
        schemas=tuple(options.get("schemas", ())),
        in_place=bool(options.get("in_place")),
        arriving=_arriving(operation),
        migrate=migrating(operation, context) if options.get("migrate") else None,
    )


def back_up_first(
    operation: Operation, context: OperationContext, rows_of: tuple[str, ...] = ()
) -> str:
    """Back up the target before it is changed where it stands; the backup's name.

    Args:
        rows_of: tables whose rows to keep; none named means all.

    Raises:
        DbopsError: there is no backup, so the operation must not begin.
    """
    # The operation itself can still be cancelled once its safety copy is sealed.
    wish = _backup_request(operation.target, {"rows_of": rows_of})
    manifest = backup_database(wish, replace(context)).manifest
    record_backup(manifest)
    # Retention asks for it here, also while, and after, this operation did not end well.
    operation.result = {"saved_as": manifest.name}
    operation.save(using=CONTROL, update_fields=["result"])
    context.log(f"What is there now is kept as {manifest.name}")
    return manifest.name


def _arriving(operation: Operation) -> Arriving:
    """What a restore does about a backup of another environment."""
    name, over = operation.options.get("name"), tuple(settings.DBOPS_SESSIONS)
    if not name or is_earlier_backup(conf.backup_store(), name):
        return Arriving(
            defuse=tuple(settings.DBOPS_DEFUSE),
            over=over,
            by_stamp=True,
            protected=tuple(settings.DBOPS_PROTECTED),
            leave=bool(operation.options.get("unmasked")) and settings.DBOPS_ALLOW_UNMASKED,
        )
    manifest = conf.backup_store().read_manifest(name)
    if manifest.environment == operation.target:
        return Arriving(over=over)
    unmasked = manifest.origin if is_protected(manifest.origin) else None
    return Arriving(tuple(settings.DBOPS_DEFUSE), over, unmasked)


def _restored_database(operation: Operation) -> ConnectionParams:
    database = conf.database_params(operation.target)
    into = operation.options.get("into")
    return database.with_database(into) if into else database


def _load_options(options: Mapping[str, Any]) -> LoadOptions:
    return LoadOptions(
        jobs=jobs(options),
        no_owner=bool(options.get("no_owner")),
        skip_privileged=bool(options.get("skip_privileged")),
        pg_bin=conf.tools_directory(),
    )


def _look_at_origin(operation: Operation) -> None:
    # The catalogue may not know the backup; its manifest says where its rows come from.
    name, path = operation.options.get("name"), operation.options.get("path")
    store = conf.backup_store()
    if name and not is_earlier_backup(store, name):
        check_origin(operation, store.read_manifest(name).origin_for(operation.target))
    elif path and Path(path).is_file():
        with Path(path).open("rb") as file:
            check_origin(operation, origin_of_a_copy(Path(path).stat().st_size, read_chunks(file)))
    elif name:
        with store.reading(name) as chunks:
            check_origin(operation, origin_of_a_copy(store.archive_size(name), chunks))


def _look_at_restored(operation: Operation) -> None:
    _look_at_origin(operation)
    look_at_migrations(operation)
    context = OperationContext(operation.id, operation.actor)
    look_at_source(_restore_request(operation, context), context)


def _look_at_verified(operation: Operation) -> None:
    try:
        _look_at_origin(operation)
    except BackupInvalidError:
        mark_damaged(operation.options["name"])
        raise


def _lock_restored(operation: Operation) -> list[Wanted]:
    return [Wanted(operation.target, _restored_database(operation), True)]


def _mark_restored(operation: Operation, result: Result) -> None:
    # It was read whole, matched its manifest, and its rows arrived: nothing verifies it better.
    if operation.options.get("name") and not result["saved_as"]:
        mark_verified(result["source"], Backup.Verification.RESTORED)


def _verify(operation: Operation, context: OperationContext) -> Result:
    options = operation.options
    full = bool(options.get("full"))
    request = VerifyRequest(
        store=conf.backup_store(),
        name=options["name"],
        keys=conf.encryption_keys(),
        full=full,
        database=conf.database_params(operation.target) if full else None,
        environment=operation.target,
        load=_load_options(options),
    )
    try:
        result = asdict(verify_backup(request, context))
    except BackupInvalidError:
        mark_damaged(request.name)
        raise
    how = Backup.Verification.FULL if full else Backup.Verification.CHECKSUM
    mark_verified(request.name, how)
    return result


def _prune(operation: Operation, context: OperationContext) -> Result:
    return prune(operation.options.get("environment", ""), context)


BACKUP_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.BACKUP: KindOfOperation(_backup, writes=False),
    Operation.Kind.RESTORE: KindOfOperation(
        _restore, look=_look_at_restored, keep=_mark_restored, databases=_lock_restored
    ),
    Operation.Kind.VERIFY: KindOfOperation(
        _verify, writes=False, look=_look_at_verified, databases=lock_nothing
    ),
    Operation.Kind.PRUNE: KindOfOperation(_prune, writes=False, databases=lock_nothing),
}
