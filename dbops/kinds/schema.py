"""Bringing a database into being."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from dbops import conf
from dbops.kinds.kind import KindOfOperation, Result
from dbops.migrating.journal import noting
from dbops.migrating.migrator import DjangoMigrator
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.maintenance import Finish, InitRequest, init_db
from dbops.operations.migration_run import apply_pending


def _init(operation: Operation, context: OperationContext) -> Result:
    environment = operation.target

    database = conf.database_params(environment)

    def migrate(finish: Finish) -> None:
        with noting(environment, operation.actor, operation.id):
            apply_pending(DjangoMigrator(environment), database, context, finish)

    request = InitRequest(
        database=database,
        environment=environment,
        migrate=migrate,
        adopt=bool(operation.options.get("adopt")),
        triggers=conf.trigger_wishes(),
    )
    return asdict(init_db(request, context))


SCHEMA_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.INIT: KindOfOperation(_init),
}
