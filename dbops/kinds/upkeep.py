"""Looking after databases: checks, resetting, emptying, maintaining."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from django.db import DEFAULT_DB_ALIAS, connections

from dbops import conf
from dbops.catalogue import found_damaged, last_backup, told_of
from dbops.code_migrations import missing_migrations, unknown_migrations
from dbops.kinds.backups import back_up_first
from dbops.kinds.kind import KindOfOperation, Result, Wanted
from dbops.migrating import DjangoMigrator
from dbops.migration_journal import noting
from dbops.models import Operation
from dbops.operations.checkup import CheckRequest, LastBackup, MigrationGap
from dbops.operations.context import OperationContext
from dbops.operations.emptying import EmptyRequest, Migrate, drop_all_tables, reset_db
from dbops.operations.inspection import InspectRequest
from dbops.operations.migration_run import apply_pending
from dbops.operations.upkeep import MaintainRequest, maintain_db
from dbops.policy import is_protected
from dbops.postgres.params import ConnectionParams


def check_request(environment: str) -> CheckRequest:
    """The request to check an environment. Raises ConfigurationError."""
    backup = last_backup(environment)
    facts = None
    if backup:
        facts = LastBackup(backup.created_at, told_of(backup), found_damaged(backup))
    return CheckRequest(
        database=conf.database_params(environment),
        environment=environment,
        gap=partial(migration_gap, environment),
        backup=facts,
        protected=is_protected(environment),
        triggers=conf.trigger_wishes(),
    )


def migration_gap(environment: str, applied: Sequence[str]) -> MigrationGap:
    """What the code has and the database has not, and the other way round; what is left behind by
    apps that the code does not have any more is nobody's concern."""
    return MigrationGap(missing_migrations(applied, environment), unknown_migrations(applied))


def _reset(operation: Operation, context: OperationContext) -> Result:
    environment = operation.target

    def migrate(database: ConnectionParams) -> None:
        apply_pending(DjangoMigrator(environment), database, context)

    with noting(environment, operation.actor, operation.id):
        return asdict(reset_db(_empty_request(operation, context, migrate), context))


def _drop(operation: Operation, context: OperationContext) -> Result:
    return asdict(drop_all_tables(_empty_request(operation, context, None), context))


def _empty_request(
    operation: Operation, context: OperationContext, migrate: Migrate | None
) -> EmptyRequest:
    _forget_connections(operation.target)
    return EmptyRequest(
        database=conf.database_params(operation.target),
        environment=operation.target,
        save=lambda: back_up_first(operation, context),
        migrate=migrate,
        triggers=conf.trigger_wishes(),
    )


def _forget_connections(environment: str) -> None:
    """This thread's own would be ended by the swap."""
    connections[environment].close()
    if environment == conf.active_environment():
        connections[DEFAULT_DB_ALIAS].close()


def _maintain(operation: Operation, context: OperationContext) -> Result:
    return asdict(maintain_db(maintain_request(operation.target), context))


def maintain_request(environment: str, *, dry_run: bool = False) -> MaintainRequest:
    """The request to maintain an environment's database. Raises ConfigurationError."""
    target = InspectRequest(environment, conf.database_params(environment))
    return MaintainRequest(target, dry_run)


def _lock_shared(operation: Operation) -> list[Wanted]:
    """Beside a backup, or another that maintains; not while the database is replaced."""
    return [Wanted(operation.target, conf.database_params(operation.target), False)]


UPKEEP_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.RESET: KindOfOperation(_reset),
    Operation.Kind.DROP: KindOfOperation(_drop),
    Operation.Kind.MAINTAIN: KindOfOperation(_maintain, databases=_lock_shared),
}
