"""Triggers in a database where it stands: applied, removed, tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace

from dbops import conf
from dbops.kinds.kind import KindOfOperation, Result
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.triggers import (
    ApplyTriggersRequest,
    RemoveTriggersRequest,
    TryTriggersRequest,
    apply_base_triggers,
    apply_triggers,
    remove_triggers,
    try_triggers,
)
from dbops.postgres.triggers import Replaced
from skinspire.router import CONTROL


def _triggers(operation: Operation, context: OperationContext) -> Result:
    options, target = operation.options, operation.target
    database = conf.database_params(target)
    schemas = tuple(options["schemas"]) if options.get("schemas") else None
    if options.get("remove"):
        return asdict(remove_triggers(RemoveTriggersRequest(database, target, schemas), context))
    wishes = conf.trigger_wishes()
    if options.get("test"):
        return asdict(try_triggers(TryTriggersRequest(database, target, schemas, wishes), context))
    if options.get("event_trigger"):
        wishes = replace(wishes, event_trigger=True)
    request = ApplyTriggersRequest(
        database=database,
        environment=target,
        schemas=schemas,
        base_only=bool(options.get("base_only")),
        wishes=wishes,
        replace_legacy=bool(options.get("replace_legacy")),
        record=lambda replaced: _record(operation, replaced),
    )
    apply = apply_base_triggers if request.base_only else apply_triggers
    return asdict(apply(request, context))


def _record(operation: Operation, replaced: Replaced) -> None:
    # A process can die between the commit and the record of its outcome.
    operation.result = {"replaced": asdict(replaced)}
    operation.save(using=CONTROL, update_fields=["result"])


TRIGGER_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.TRIGGERS: KindOfOperation(_triggers),
}
