"""The kinds of operations: how a recorded one becomes a request, and its result a record.

This is where configuration meets the operations, which read none themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dbbackup import signals
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import Error as DatabaseLayerError
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
from dbops.exceptions import BackupInvalidError, StatementError
from dbops.models import Backup, Operation
from dbops.operations.backup import BackupRequest, backup_database
from dbops.operations.context import OperationContext
from dbops.operations.copy import copy_database
from dbops.operations.copy_plan import CopyRequest, Masking, plan_copy
from dbops.operations.defuse import Arriving
from dbops.operations.maintenance import InitRequest, init_db
from dbops.operations.restore import RestoreRequest, restore_database
from dbops.operations.restore_source import LoadOptions
from dbops.operations.triggers import ApplyTriggersRequest, apply_base_triggers, apply_triggers
from dbops.operations.undo import UndoRequest, undo_operation
from dbops.operations.verify import VerifyRequest, verify_backup
from dbops.policy import check_origin, is_protected, masks_copy
from dbops.postgres.params import ConnectionParams
from dbops.pruning import prune
from skinspire.router import CONTROL

Result = Mapping[str, Any]
_MOST_JOBS = 4


def _see_nothing(operation: Operation) -> None:
    """Most operations find out for themselves, under their lock."""


def _keep_nothing(operation: Operation, result: Result) -> None:
    """Most operations leave no record but their own row."""


@dataclass(frozen=True)
class Wanted:
    """A database an operation needs for itself, or to stay as it is meanwhile."""

    environment: str
    database: ConnectionParams
    exclusive: bool


@dataclass(frozen=True)
class KindOfOperation:
    """One kind: what it runs, whether it writes its target, what it records on success."""

    execute: Callable[[Operation, OperationContext], Result]
    writes: bool = True
    look: Callable[[Operation], object] = _see_nothing
    """Looks before the locks are taken; raises what would stop the operation anyway."""
    keep: Callable[[Operation, Result], None] = _keep_nothing
    databases: Callable[[Operation], list[Wanted]] | None = None
    """What it locks; None for its target, and its source shared."""

    def locks(self, operation: Operation) -> list[Wanted]:
        """The databases it concerns."""
        if self.databases is not None:
            return self.databases(operation)
        if not self.writes:
            named = [(operation.target or operation.source, False)]
        else:
            named = [(operation.target, True), (operation.source, False)]
        return [Wanted(it, conf.database_params(it), exclusive) for it, exclusive in named if it]


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
    options = operation.options

    def save(rows_of: tuple[str, ...]) -> str:
        # The restore itself can still be cancelled once its safety copy is sealed.
        wish = _backup_request(operation.target, {"rows_of": rows_of})
        manifest = backup_database(wish, replace(context)).manifest
        record_backup(manifest)
        # Retention asks for it here, also while, and after, this restore did not end well.
        operation.result = {"saved_as": manifest.name}
        operation.save(using=CONTROL, update_fields=["result"])
        context.log(f"What is there now is kept as {manifest.name}")
        return manifest.name

    request = RestoreRequest(
        database=_restored_database(operation),
        environment=operation.target,
        store=conf.backup_store(),
        save=save,
        name=options.get("name", ""),
        path=Path(options["path"]) if options.get("path") else None,
        keys=conf.encryption_keys(),
        load=_load_options(options),
        fresh=bool(options.get("into")),
        tables=tuple(options.get("tables", ())),
        schemas=tuple(options.get("schemas", ())),
        in_place=bool(options.get("in_place")),
        arriving=_arriving(operation),
    )
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
    return asdict(result)


def _arriving(operation: Operation) -> Arriving:
    """What a restore does about a backup of another environment."""
    name = operation.options.get("name")
    if not name or is_earlier_backup(conf.backup_store(), name):
        return Arriving(
            protected=tuple(settings.DBOPS_PROTECTED),
            leave=bool(operation.options.get("unmasked")) and settings.DBOPS_ALLOW_UNMASKED,
        )
    manifest = conf.backup_store().read_manifest(name)
    if manifest.environment == operation.target:
        return Arriving()
    unmasked = manifest.origin if is_protected(manifest.origin) else None
    return Arriving(tuple(settings.DBOPS_DEFUSE), unmasked)


def _restored_database(operation: Operation) -> ConnectionParams:
    database = conf.database_params(operation.target)
    into = operation.options.get("into")
    return database.with_database(into) if into else database


def _load_options(options: Mapping[str, Any]) -> LoadOptions:
    return LoadOptions(
        jobs=_jobs(options),
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


def _look_at_verified(operation: Operation) -> None:
    try:
        _look_at_origin(operation)
    except BackupInvalidError:
        mark_damaged(operation.options["name"])
        raise


def _lock_restored(operation: Operation) -> list[Wanted]:
    return [Wanted(operation.target, _restored_database(operation), True)]


def _lock_nothing(operation: Operation) -> list[Wanted]:
    """What concerns only the storage, or a scratch database of its own."""
    return []


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


def _copy(operation: Operation, context: OperationContext) -> Result:
    return asdict(copy_database(_copy_request(operation), context))


def _look_at_copy(operation: Operation) -> object:
    # One database under two names would otherwise find its own lock on the source in its way.
    return plan_copy(_copy_request(operation))


def _copy_request(operation: Operation) -> CopyRequest:
    return copy_request(operation.source, operation.target, operation.options)


def copy_request(source: str, target: str, options: Mapping[str, Any]) -> CopyRequest:
    """The request a copy would run with; a dry run and a confirmation page look at its plan."""
    masking = None
    if masks_copy(source, target, options):
        masking = Masking(conf.masking_rules(), conf.masking_key())
    return CopyRequest(
        source=conf.database_params(source),
        source_environment=source,
        target=conf.database_params(target),
        target_environment=target,
        part=options.get("part", "full"),
        strategy=options.get("strategy", "auto"),
        masking=masking,
        unmasked=bool(options.get("unmasked")) and settings.DBOPS_ALLOW_UNMASKED,
        protected=is_protected(source),
        exclude=tuple(options.get("exclude", ())),
        preserve=tuple(options.get("preserve", ())),
        drop_misfits=bool(options.get("drop_misfits")),
        verify=options.get("verify", "counts"),
        disconnect_source=bool(options.get("disconnect_source")),
        jobs=_jobs(options),
        defuse=tuple(settings.DBOPS_DEFUSE),
        pg_bin=conf.tools_directory(),
    )


def _jobs(options: Mapping[str, Any]) -> int:
    return options.get("jobs") or min(os.cpu_count() or 1, _MOST_JOBS)


def _undo(operation: Operation, context: OperationContext) -> Result:
    request = UndoRequest(
        database=conf.database_params(operation.target),
        environment=operation.target,
        operation=operation.options["operation"],
    )
    return asdict(undo_operation(request, context))


def _triggers(operation: Operation, context: OperationContext) -> Result:
    options = operation.options
    request = ApplyTriggersRequest(
        database=conf.database_params(operation.target),
        environment=operation.target,
        schemas=tuple(options["schemas"]) if options.get("schemas") else None,
        base_only=bool(options.get("base_only")),
    )
    apply = apply_base_triggers if request.base_only else apply_triggers
    return asdict(apply(request, context))


def _init(operation: Operation, context: OperationContext) -> Result:
    environment = operation.target

    def migrate() -> None:
        connections[environment].close()
        try:
            call_command("migrate", database=environment, interactive=False, verbosity=0)
        except (DatabaseLayerError, CommandError) as error:
            raise StatementError(
                f"Migrating {environment} failed: {str(error).splitlines()[0]}",
                hint=f"What was applied stays: python manage.py showmigrations "
                f"--database {environment}",
            ) from error
        finally:
            connections[environment].close()

    request = InitRequest(
        database=conf.database_params(environment),
        environment=environment,
        migrate=migrate,
        adopt=bool(operation.options.get("adopt")),
    )
    return asdict(init_db(request, context))


def _prune(operation: Operation, context: OperationContext) -> Result:
    return prune(operation.options.get("environment", ""), context)


KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.BACKUP: KindOfOperation(_backup, writes=False),
    Operation.Kind.RESTORE: KindOfOperation(
        _restore, look=_look_at_origin, keep=_mark_restored, databases=_lock_restored
    ),
    Operation.Kind.COPY: KindOfOperation(_copy, look=_look_at_copy),
    Operation.Kind.UNDO: KindOfOperation(_undo),
    Operation.Kind.TRIGGERS: KindOfOperation(_triggers),
    Operation.Kind.INIT: KindOfOperation(_init),
    Operation.Kind.VERIFY: KindOfOperation(
        _verify, writes=False, look=_look_at_verified, databases=_lock_nothing
    ),
    Operation.Kind.PRUNE: KindOfOperation(_prune, writes=False, databases=_lock_nothing),
}
