"""Applying and undoing migrations: recorded operations as requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from dbops import conf
from dbops.kinds.backups import back_up_first
from dbops.kinds.kind import KindOfOperation, Result, Wanted, jobs
from dbops.migrating.journal import noting
from dbops.migrating.migrator import DjangoMigrator
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.copy_aside import CopyOptions
from dbops.operations.migration import apply_migration, rollback_migration
from dbops.operations.migration_request import MigrateRequest
from dbops.operations.migration_run import LOCK_TIMEOUT
from dbops.policy import is_protected

PATIENCE = 600.0
"""Seconds a migration waits for the operation before it: several servers of one application start
at once, each with the same migrations."""


def _migrate(operation: Operation, context: OperationContext) -> Result:
    with noting(operation.target, operation.actor, operation.id):
        return asdict(apply_migration(_request(operation, context), context))


def _roll_back(operation: Operation, context: OperationContext) -> Result:
    return asdict(rollback_migration(_request(operation, context), context))


def _request(operation: Operation, context: OperationContext) -> MigrateRequest:
    options, environment = operation.options, operation.target
    undo = int(options.get("steps") or 1) if operation.kind == Operation.Kind.ROLLBACK else 0
    rehearse, expected = options.get("rehearse"), options.get("migrations")
    return MigrateRequest(
        database=conf.database_params(environment),
        environment=environment,
        migrator=DjangoMigrator(environment, undo=undo),
        save=(lambda: back_up_first(operation, context)) if options.get("backup", True) else None,
        rehearse=is_protected(environment) if rehearse is None else bool(rehearse),
        only_rehearse=bool(options.get("only_rehearse")),
        way=options.get("way") or "auto",
        lock_timeout=float(options.get("lock_timeout") or LOCK_TIMEOUT),
        copy=CopyOptions(jobs(options), conf.tools_directory()),
        expected=None if expected is None else tuple(expected),
        triggers=conf.trigger_wishes(),
    )


def _lock(operation: Operation) -> list[Wanted]:
    # A rehearsal only reads the database itself.
    exclusive = not operation.options.get("only_rehearse")
    return [Wanted(operation.target, conf.database_params(operation.target), exclusive)]


MIGRATION_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.MIGRATE: KindOfOperation(_migrate, databases=_lock, patience=PATIENCE),
    Operation.Kind.ROLLBACK: KindOfOperation(_roll_back, databases=_lock, patience=PATIENCE),
}
