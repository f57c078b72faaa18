"""What is made in a database where it stands: triggers, and bringing it into being."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from dbops import conf
from dbops.kinds.kind import KindOfOperation, Result
from dbops.migrating import DjangoMigrator
from dbops.migration_journal import noting
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.maintenance import InitRequest, init_db
from dbops.operations.migration_run import apply_pending
from dbops.operations.triggers import ApplyTriggersRequest, apply_base_triggers, apply_triggers
from skinspire.guarantees import trigger_sets


def _triggers(operation: Operation, context: OperationContext) -> Result:
    options = operation.options
    request = ApplyTriggersRequest(
        database=conf.database_params(operation.target),
        environment=operation.target,
        schemas=tuple(options["schemas"]) if options.get("schemas") else None,
        base_only=bool(options.get("base_only")),
        sets=trigger_sets(),
    )
    apply = apply_base_triggers if request.base_only else apply_triggers
    return asdict(apply(request, context))


def _init(operation: Operation, context: OperationContext) -> Result:
    environment = operation.target

    database = conf.database_params(environment)

    def migrate() -> None:
        with noting(environment, operation.actor, operation.id):
            apply_pending(DjangoMigrator(environment), database, context)

    request = InitRequest(
        database=database,
        environment=environment,
        migrate=migrate,
        adopt=bool(operation.options.get("adopt")),
    )
    return asdict(init_db(request, context))


SCHEMA_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.TRIGGERS: KindOfOperation(_triggers),
    Operation.Kind.INIT: KindOfOperation(_init),
}
