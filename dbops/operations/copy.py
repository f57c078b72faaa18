"""Copy one environment's database into another: aside, proven, swapped in, the old one kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

from dbops.exceptions import ProofError, StatementError
from dbops.operations.context import OperationContext
from dbops.operations.copy_plan import CopyPlan, CopyRequest, came_unmasked, plan_copy
from dbops.operations.copy_stream import Built, build_by_stream
from dbops.operations.defuse import defuse, forget_history
from dbops.operations.guards import require_available, require_existing
from dbops.operations.holding import held_snapshot, written_by_nobody
from dbops.operations.replacement import (
    Replacement,
    building,
    owner_options,
    prove,
    settle,
    swap_in,
)
from dbops.postgres import archive, catalog, roles, triggers
from dbops.postgres.connection import Connection, session
from dbops.postgres.databases import copy_files, database_facts, drop_database
from dbops.postgres.fingerprint import Fingerprint, standing_still, take_fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child
from dbops.postgres.stamp import write_stamp
from dbops.postgres.swap import clear_sessions
from dbops.postgres.tools import find_tool
from dbops.postgres.triggers import history
from dbops.wording import counted

COUNT_BELOW = 256 << 20
"""Bytes up to which a file copy is counted row by row; above, PostgreSQL's estimates are told."""


@dataclass(frozen=True)
class CopyResult:
    """What stands in the target now."""

    strategy: str
    reason: str
    """Why that strategy."""
    database: str
    rows: int
    rows_exact: bool
    tables: int
    bytes: int
    masked_columns: int
    outage_ms: float
    previous: str | None
    triggers: int
    defused: Mapping[str, int] = field(default_factory=dict)
    """Rows emptied because they mean nothing in another environment, per table."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows that did not fit the schema, per table."""


def copy_database(request: CopyRequest, context: OperationContext) -> CopyResult:
    """Build a copy of the source beside the target, prove it and swap it in.

    Raises:
        everything :func:`~dbops.operations.copy_plan.plan_copy` raises, MaskingError, MisfitError,
        ToolError, StatementError, ProofError. The target is as it was.
    """
    context.step("preflight")
    plan = plan_copy(request)
    context.log(f"Strategy {plan.strategy}: {plan.reason}")
    with _kept_still(request, context), building(plan.target, context) as replacement:
        strategy, built = build_copy(request, plan, replacement, context)
        installed, defused = _finish(request, replacement, context)
        size = _size(replacement)
        swapped = swap_in(replacement, context)
    return CopyResult(
        strategy=strategy,
        reason=plan.reason,
        database=request.target.database,
        rows=built.rows - sum(defused.values()),
        rows_exact=built.exact,
        tables=built.tables,
        bytes=size,
        masked_columns=built.masked_columns,
        outage_ms=round(swapped.outage_ms, 1),
        previous=swapped.previous,
        triggers=installed,
        defused=defused,
        left_out=built.left_out,
    )


def _kept_still(request: CopyRequest, context: OperationContext) -> AbstractContextManager[None]:
    """What of the target is to stay, nobody writes meanwhile: it would be lost with the swap."""
    patterns = ("*",) if request.part == "schema" else request.preserve
    if not patterns:
        return nullcontext()
    return written_by_nobody(request.target, request.target_environment, patterns, context)


def build_copy(
    request: CopyRequest, plan: CopyPlan, replacement: Replacement, context: OperationContext
) -> tuple[str, Built]:
    """By the strategy planned, or, where somebody came to use the source meanwhile, by stream."""
    if plan.strategy == "template":
        built = _copy_by_files(request, plan, replacement, context)
        if built is not None:
            return "template", built
    if plan.strategy == "dump":
        return "dump", _copy_by_dump(request, plan, replacement, context)
    return "stream", build_by_stream(request, plan, replacement, context)


def _finish(
    request: CopyRequest, replacement: Replacement, context: OperationContext
) -> tuple[int, dict[str, int]]:
    """(triggers installed, rows emptied per table)."""
    defused: dict[str, int] = {}
    context.step("triggers")
    with session(
        replacement.incoming, application=context.application, actor=context.actor
    ) as connection:
        forget_history(connection, context)
        installed = triggers.install(
            connection, request.triggers, poll=context.check_cancelled
        ).triggers
        if triggers.status(connection, request.triggers).drift:
            raise ProofError("The triggers are not all in place after they were installed.")
        if request.part != "schema":
            defused = defuse(connection, request.defuse, context, keeping=request.preserve)
        else:
            _keep_history(request, connection, context)
    return installed, defused


def _keep_history(request: CopyRequest, incoming: Connection, context: OperationContext) -> None:
    """A target that keeps its rows keeps what became of them."""
    with session(request.target, application=context.application) as look:
        if history.count(look):
            rows = history.carry(look, incoming, context.check_cancelled)
            context.log(counted(rows, "row of row history stays", "rows of row history stay"))


def _copy_by_files(
    request: CopyRequest, plan: CopyPlan, replacement: Replacement, context: OperationContext
) -> Built | None:
    """Copy inside the server; None where somebody used the source meanwhile, so that another way
    must be taken."""
    try:
        before = _count(request.source, require_existing(plan.source).size, context)
        context.step("copy files")
        with session(replacement.maintenance, application=context.application) as control:
            if request.disconnect_source:
                clear_sessions(control, request.source.database)
            incoming = replacement.incoming.database
            copy_files(control, incoming, request.source.database, context.check_cancelled)
        return _prove_file_copy(request, before, replacement, context)
    except (StatementError, ProofError) as error:
        in_use = isinstance(error, ProofError) or "being accessed" in str(error)
        if request.strategy == "template" or not in_use:
            raise
        context.log(f"{request.source.database} came into use; copying by stream instead")
    with session(replacement.maintenance) as control:
        drop_database(control, replacement.incoming.database)
    return None


def _count(database: ConnectionParams, size: int, context: OperationContext) -> dict[str, int]:
    """Rows per table, exact up to COUNT_BELOW; above, counting would take longer than copying."""
    with session(database, application=context.application) as connection:
        if size <= COUNT_BELOW:
            return catalog.count_rows(connection, context.check_cancelled)
        return {table.label: table.estimated_rows for table in catalog.tables(connection)}


def _prove_file_copy(
    request: CopyRequest,
    before: dict[str, int],
    replacement: Replacement,
    context: OperationContext,
) -> Built:
    context.step("prove")
    size = _size(replacement)
    exact = size <= COUNT_BELOW
    found = _count(replacement.incoming, size, context)
    different = before.keys() ^ found.keys()
    if exact:
        different |= {table for table in before if before[table] != found.get(table)}
    if different:
        raise ProofError(f"The copy differs from its source in {', '.join(sorted(different)[:3])}.")
    if request.verify == "checksum":
        _require_equal_checksums(request.source, replacement.incoming, context)
    with session(replacement.incoming) as connection:
        write_stamp(connection, replacement.target.environment, came_unmasked(request))
    return Built(sum(found.values()), len(found), exact=exact)


def _require_equal_checksums(
    source: ConnectionParams, incoming: ConnectionParams, context: OperationContext
) -> None:
    context.step("compare checksums")
    sums = []
    for database in (source, incoming):
        with session(database, application=context.application) as connection:
            sums.append(catalog.checksum_rows(connection, context.check_cancelled))
    different = sorted(table for table, value in sums[0].items() if sums[1].get(table) != value)
    if different:
        raise ProofError(f"The rows of {', '.join(different[:3])} are not the same.")


def _copy_by_dump(
    request: CopyRequest, plan: CopyPlan, replacement: Replacement, context: OperationContext
) -> Built:
    context.step("create")
    replacement.create_empty()
    with held_snapshot(request.source, request.source_environment, context) as held:
        snapshot = held.snapshot
        look = snapshot.connection
        expected = take_fingerprint(
            look, context.check_cancelled, checksums=request.verify == "checksum"
        )
        before = expected.sequences or {}
        owners, grantees = roles.owners(look), roles.grantees(look)
        with session(replacement.maintenance) as control:
            require_available(control, extensions=expected.extensions, grantees=grantees)
            options = owner_options(control, owners, context)
        _pipe(request, plan, replacement, context, snapshot.id, options)
        expected = replace(expected, sequences=standing_still(look, before), history=0)
    settle(replacement, context, came_unmasked(request))
    proven = prove(replacement, expected, context)
    _require_triggers_carried(expected, proven)
    return Built(proven.rows, len(proven.tables))


def _require_triggers_carried(expected: Fingerprint, proven: Fingerprint) -> None:
    if expected.trigger_digest != proven.trigger_digest:
        raise ProofError("The triggers of the source did not arrive as they were.")


def _pipe(
    request: CopyRequest,
    plan: CopyPlan,
    replacement: Replacement,
    context: OperationContext,
    snapshot_id: str,
    options: tuple[str, ...],
) -> None:
    # An archive must be written by tools the target can read: those of the target's major, which
    # is never older than the source's (require_not_newer).
    major = plan.target.server.major
    pg_dump = find_tool("pg_dump", major, request.pg_bin)
    pg_restore = find_tool("pg_restore", major, request.pg_bin)
    total = require_existing(plan.source).size
    with archive.dump(
        pg_dump, request.source, snapshot=snapshot_id, options=[history.LEFT_OUT]
    ) as child:
        archive.restore(
            pg_restore,
            replacement.incoming,
            _counted_chunks(child, context, total),
            poll=context.check_cancelled,
            options=options,
        )


def _counted_chunks(child: Child, context: OperationContext, total: int) -> Iterator[bytes]:
    done = 0
    for chunk in child.read(context.check_cancelled):
        done += len(chunk)
        context.step("copy rows", min(done, total), total)
        yield chunk
    child.wait(context.check_cancelled)


def _size(replacement: Replacement) -> int:
    with session(replacement.maintenance) as control:
        facts = database_facts(control, replacement.incoming.database)
    return facts.size if facts else 0
