"""Bringing a database into being."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from django.core.management import CommandError, call_command
from django.db import Error as DatabaseLayerError
from django.db import connections

from dbops import conf
from dbops.exceptions import StatementError
from dbops.kinds.kind import KindOfOperation, Result
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.maintenance import InitRequest, init_db


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
        triggers=conf.trigger_wishes(),
    )
    return asdict(init_db(request, context))


SCHEMA_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.INIT: KindOfOperation(_init),
}
