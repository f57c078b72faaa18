"""Copying and undoing: recorded operations as requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.conf import settings

from dbops import conf
from dbops.kinds.kind import KindOfOperation, Result, jobs
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.copy import copy_database
from dbops.operations.copy_plan import CopyRequest, Masking, plan_copy
from dbops.operations.triggers import PutTriggersBackRequest, put_triggers_back
from dbops.operations.undo import UndoRequest, undo_operation
from dbops.policy import is_protected, masks_copy
from dbops.postgres.triggers import Replaced


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
        jobs=jobs(options),
        defuse=tuple(settings.DBOPS_DEFUSE),
        triggers=conf.trigger_wishes(),
        pg_bin=conf.tools_directory(),
    )


def _undo(operation: Operation, context: OperationContext) -> Result:
    done = Operation.objects.filter(pk=operation.options["operation"]).first()
    if done and done.kind == Operation.Kind.TRIGGERS:
        return _put_triggers_back(operation, done, context)
    request = UndoRequest(
        database=conf.database_params(operation.target),
        environment=operation.target,
        operation=operation.options["operation"],
        over=tuple(settings.DBOPS_SESSIONS),
    )
    return asdict(undo_operation(request, context))


def _put_triggers_back(operation: Operation, done: Operation, context: OperationContext) -> Result:
    request = PutTriggersBackRequest(
        database=conf.database_params(operation.target),
        environment=operation.target,
        replaced=Replaced.from_json(done.result["replaced"]),
        operation=done.id,
    )
    return asdict(put_triggers_back(request, context))


COPY_KINDS: Mapping[str, KindOfOperation] = {
    Operation.Kind.COPY: KindOfOperation(_copy, look=_look_at_copy),
    Operation.Kind.UNDO: KindOfOperation(_undo),
}
