"""Copy one environment's database into another: aside, proven, swapped in, the old one kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dbops.exceptions import (
    PreflightError,
    ProofError,
    SameDatabaseError,
    StatementError,
    UsageError,
)
from dbops.operations.context import OperationContext
from dbops.operations.guards import (
    Endpoint,
    check_stamp,
    inspect_endpoint,
    require_available,
    require_can_replace,
    require_existing,
    require_not_newer,
)
from dbops.operations.replacement import (
    Replacement,
    building,
    owner_options,
    prove,
    settle,
    swap_in,
)
from dbops.postgres import archive, catalog, roles, triggers
from dbops.postgres.connection import session
from dbops.postgres.databases import (
    MAINTENANCE,
    copy_files,
    database_facts,
    drop_database,
    session_count,
)
from dbops.postgres.fingerprint import Fingerprint, standing_still, take_fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child
from dbops.postgres.snapshot import exported_snapshot
from dbops.postgres.stamp import write_stamp
from dbops.postgres.tools import find_tool

STRATEGIES = ("auto", "template", "dump")
COUNT_BELOW = 256 << 20
"""Bytes up to which a file copy is counted row by row; above, PostgreSQL's estimates are told."""


@dataclass(frozen=True)
class CopyRequest:
    """Which database to copy over which."""

    source: ConnectionParams
    source_environment: str
    target: ConnectionParams
    target_environment: str
    strategy: str = "auto"
    pg_bin: Path | None = None


@dataclass(frozen=True)
class CopyResult:
    """What stands in the target now."""

    strategy: str
    database: str
    rows: int
    rows_exact: bool
    tables: int
    bytes: int
    masked_columns: int
    outage_ms: float
    previous: str | None
    triggers: int


@dataclass(frozen=True)
class CopyPlan:
    """What :func:`plan_copy` found: nothing in the way, and how the rows would travel."""

    source: Endpoint
    target: Endpoint
    strategy: str


@dataclass(frozen=True)
class _Counted:
    rows: int
    tables: int
    exact: bool


def plan_copy(request: CopyRequest) -> CopyPlan:
    """Look at both ends without writing.

    Raises:
        UsageError: unknown strategy.
        SameDatabaseError, StampError, PrivilegeError, PreflightError, VersionMismatchError:
            the copy would be refused.
    """
    if request.strategy not in STRATEGIES:
        raise UsageError(
            f"Unknown strategy {request.strategy!r}.", hint=f"One of: {', '.join(STRATEGIES)}"
        )
    source = inspect_endpoint(request.source, request.source_environment)
    target = inspect_endpoint(request.target, request.target_environment)
    with session(request.source.with_database(MAINTENANCE)) as control:
        busy = session_count(control, request.source.database)
    require_existing(source)
    _require_different(source, target)
    check_stamp(source, writing=False)
    check_stamp(target, writing=True)
    require_can_replace(target)
    require_not_newer(f"The {source.environment} database", source.server.major, target.server)
    return CopyPlan(source, target, _choose_strategy(request, source, target, busy))


def copy_database(request: CopyRequest, context: OperationContext) -> CopyResult:
    """Build a copy of the source beside the target, prove it and swap it in.

    Raises:
        everything :func:`plan_copy` raises, ToolError, ProofError. The target is as it was.
    """
    context.step("preflight")
    plan = plan_copy(request)
    with building(plan.target, context) as replacement:
        strategy = plan.strategy
        counted = None
        if strategy == "template":
            counted = _copy_by_files(request, plan, replacement, context)
        if counted is None:
            strategy = "dump"
            counted = _copy_by_dump(request, plan, replacement, context)
        installed = _install_triggers(replacement, context)
        size = _size(replacement)
        swapped = swap_in(replacement, context)
    return CopyResult(
        strategy=strategy,
        database=request.target.database,
        rows=counted.rows,
        rows_exact=counted.exact,
        tables=counted.tables,
        bytes=size,
        masked_columns=0,
        outage_ms=round(swapped.outage_ms, 1),
        previous=swapped.previous,
        triggers=installed,
    )


def _require_different(source: Endpoint, target: Endpoint) -> None:
    if source.identity == target.identity:
        raise SameDatabaseError(
            f"{source.environment} ({source.params.label}) and {target.environment} "
            f"({target.params.label}) are one and the same database.",
            hint="Give them different databases: python manage.py pg status shows the URLs in use",
        )


def _choose_strategy(request: CopyRequest, source: Endpoint, target: Endpoint, busy: int) -> str:
    one_server = source.server.system_identifier == target.server.system_identifier
    if request.strategy == "template":
        if not one_server:
            raise PreflightError("Strategy template needs both databases on one server.")
        if busy:
            raise PreflightError(
                f"Strategy template needs nobody on {source.params.database}; "
                f"{busy} session(s) are.",
                hint="Use --strategy dump, or close the sessions.",
            )
    if request.strategy != "auto":
        return request.strategy
    return "template" if one_server and not busy and _may_clone(source) else "dump"


def _may_clone(source: Endpoint) -> bool:
    if source.server.superuser or source.database is None:
        return source.server.superuser
    with session(source.params.with_database(MAINTENANCE)) as control:
        return roles.may_act_as(control, [source.database.owner])


def _copy_by_files(
    request: CopyRequest, plan: CopyPlan, replacement: Replacement, context: OperationContext
) -> _Counted | None:
    """Copy inside the server; None where somebody used the source meanwhile, so that another way
    must be taken."""
    try:
        before = _count(request.source, require_existing(plan.source).size, context)
        context.step("copy files")
        with session(replacement.maintenance, application=context.application) as control:
            incoming = replacement.incoming.database
            copy_files(control, incoming, request.source.database, context.check_cancelled)
        return _prove_file_copy(before, replacement, context)
    except (StatementError, ProofError) as error:
        in_use = isinstance(error, ProofError) or "being accessed" in str(error)
        if request.strategy == "template" or not in_use:
            raise
        context.log(f"{request.source.database} came into use; copying by dump instead")
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
    before: dict[str, int], replacement: Replacement, context: OperationContext
) -> _Counted:
    context.step("prove")
    size = _size(replacement)
    exact = size <= COUNT_BELOW
    found = _count(replacement.incoming, size, context)
    different = before.keys() ^ found.keys()
    if exact:
        different |= {table for table in before if before[table] != found.get(table)}
    if different:
        raise ProofError(f"The copy differs from its source in {', '.join(sorted(different)[:3])}.")
    with session(replacement.incoming) as connection:
        write_stamp(connection, replacement.target.environment)
    return _Counted(sum(found.values()), len(found), exact)


def _copy_by_dump(
    request: CopyRequest, plan: CopyPlan, replacement: Replacement, context: OperationContext
) -> _Counted:
    context.step("create")
    replacement.create_empty()
    with exported_snapshot(request.source, application=context.application) as snapshot:
        look = snapshot.connection
        expected = take_fingerprint(look, context.check_cancelled)
        before = expected.sequences or {}
        owners, grantees = roles.owners(look), roles.grantees(look)
        with session(replacement.maintenance) as control:
            require_available(control, extensions=expected.extensions, grantees=grantees)
            options = owner_options(control, owners, context)
        _pipe(request, plan, replacement, context, snapshot.id, options)
        expected = replace(expected, sequences=standing_still(look, before))
    settle(replacement, context)
    proven = prove(replacement, expected, context)
    _require_triggers_carried(expected, proven)
    return _Counted(proven.rows, len(proven.tables), exact=True)


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
    with archive.dump(pg_dump, request.source, snapshot=snapshot_id) as child:
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


def _install_triggers(replacement: Replacement, context: OperationContext) -> int:
    context.step("triggers")
    with session(
        replacement.incoming, application=context.application, actor=context.actor
    ) as connection:
        installed = triggers.install(connection, poll=context.check_cancelled).triggers
        if triggers.status(connection).drift:
            raise ProofError("The triggers are not all in place after they were installed.")
        return installed


def _size(replacement: Replacement) -> int:
    with session(replacement.maintenance) as control:
        facts = database_facts(control, replacement.incoming.database)
    return facts.size if facts else 0
