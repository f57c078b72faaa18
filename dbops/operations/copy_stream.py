"""A copy by stream: definitions from one database, rows from one or both, each under a snapshot.

Whoever asks for the schema of one database with the rows of the other (``--schema-only``,
``--data-only``, ``--preserve``) gets the same algorithm as for a full copy: only where each table's
rows come from differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from dbops.exceptions import PrivilegeError, ProofError
from dbops.masking.plan import MaskPlan, session_settings
from dbops.operations.context import OperationContext
from dbops.operations.copy_plan import CopyPlan, CopyRequest, came_unmasked, masks_of
from dbops.operations.copy_proof import require_equal_rows
from dbops.operations.copy_routes import End, Ends, Route, plan_routes
from dbops.operations.guards import require_available
from dbops.operations.holding import held_snapshot
from dbops.operations.misfits import settle_misfits
from dbops.operations.replacement import Replacement, owner_options, prove, settle
from dbops.postgres import archive, archive_load, catalog, roles, sequences, views
from dbops.postgres.connection import fetch_value, session
from dbops.postgres.databases import session_count
from dbops.postgres.fingerprint import Fingerprint, take_fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child, Poll
from dbops.postgres.snapshot import unreadable
from dbops.postgres.stream import Moved, Origin, move_rows, parted
from dbops.postgres.tools import find_tool


@dataclass(frozen=True)
class Built:
    """What was built and proven."""

    rows: int
    tables: int
    masked_columns: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows that did not fit, per table."""
    exact: bool = True
    """Rows were counted, not estimated."""


def build_by_stream(
    request: CopyRequest, plan: CopyPlan, replacement: Replacement, context: OperationContext
) -> Built:
    """Fill the incoming database and prove it.

    Raises:
        MaskingError: a column is covered by no rule. PrivilegeError: a table cannot be read whole.
        PreflightError: rows do not fit the schema. ToolError, StatementError, ProofError.
    """
    with _looking(request, context) as ends:
        masks = masks_of(request, ends.source.connection, ends.source.tables)
        for note in masks.notes if masks else ():
            context.log(note)
        if keeping := catalog.extensions_with_rows(ends.source.connection):
            context.log(f"Rows of extension {', '.join(keeping)} itself are not copied")
        routes = plan_routes(request, ends, masks, context)
        context.step("create")
        how = _definitions(request, plan, ends, replacement, context)
        replacement.create_empty()
        context.step("definitions")
        archive_load.load_definitions(replacement.incoming, how, context.check_cancelled)
        moved = _move(request, plan, ends, routes, replacement, context)
        _copy_large_objects(request, plan, ends, masks, replacement, context)
        _set_sequences(request, ends, routes, replacement)
        left_out = settle_misfits(moved, ends, routes, replacement.incoming, request, context)
        if ends.target is not None:
            with session(replacement.incoming, application=context.application) as incoming:
                sequences.catch_up(incoming, context.check_cancelled)
        context.step("indexes and constraints")
        archive_load.load_constraints(replacement.incoming, how, context.check_cancelled)
        _refresh(ends.defining, replacement, context)
        expected = _expected(ends, moved, masks, how, context)
        proven = _prove(request, expected, moved, replacement, context)
        if request.verify == "checksum":
            context.step("compare checksums")
            parcels = [it.parcel for it in routes if it.parcel and it.table not in left_out]
            jobs, _ = _side_by_side(request, plan, ends)
            require_equal_rows(parcels, replacement.incoming, jobs, context)
    masked = sum(route.masked for route in routes)
    return Built(proven.rows, len(proven.tables), masked, left_out)


@contextmanager
def _looking(request: CopyRequest, context: OperationContext) -> Iterator[Ends]:
    """Both databases as they are now, and stay to whoever looks through their snapshots."""
    with ExitStack() as closing:
        reading = request.source
        if request.masking:
            reading = reading.with_settings(session_settings(request.masking.key))
        source = closing.enter_context(_look(reading, request.source_environment, context))
        target = None
        if request.part != "full" or request.preserve:
            target = closing.enter_context(
                _look(request.target, request.target_environment, context)
            )
        defining = target if target and request.part == "data" else source
        yield Ends(source, target, defining)


@contextmanager
def _look(params: ConnectionParams, environment: str, context: OperationContext) -> Iterator[End]:
    with session(params, application=context.application) as connection:
        if hidden := unreadable(connection):
            more = f" and {len(hidden) - 5} more" if len(hidden) > 5 else ""
            raise PrivilegeError(
                f"{params.user} may not read all of {environment}: {', '.join(hidden[:5])}{more}.",
                hint=f"Grant SELECT there (or the role pg_read_all_data), and BYPASSRLS where row "
                f"security hides rows, to {params.user}",
            )
    with held_snapshot(params, environment, context) as held:
        connection = held.snapshot.connection
        origin = Origin(params, held.snapshot.id, connection.server_version)
        yield End(connection, origin, environment, held.tables)


def _definitions(
    request: CopyRequest,
    plan: CopyPlan,
    ends: Ends,
    replacement: Replacement,
    context: OperationContext,
) -> archive_load.Load:
    """The new schema as an archive without rows, held in memory."""
    # Tools of the target's major, which is never older than the source's.
    major, poll = plan.target.server.major, context.check_cancelled
    pg_restore = find_tool("pg_restore", major, request.pg_bin)
    look = ends.defining.connection
    with session(replacement.maintenance) as control:
        extensions, grantees = catalog.extensions(look), roles.grantees(look)
        require_available(control, extensions=extensions, grantees=grantees)
        options = owner_options(control, roles.owners(look), context)

    @contextmanager
    def opened() -> Iterator[Iterator[bytes]]:
        pg_dump = find_tool("pg_dump", major, request.pg_bin)
        origin = ends.defining.origin
        with archive.dump(
            pg_dump, origin.params, snapshot=origin.snapshot, options=["--schema-only"]
        ) as child:
            yield _dumped_chunks(child, poll)
            child.wait(poll)

    contents = archive.read_contents(pg_restore, opened, poll)
    return archive_load.Load(pg_restore, contents, opened, jobs=request.jobs, options=options)


def _move(
    request: CopyRequest,
    plan: CopyPlan,
    ends: Ends,
    routes: list[Route],
    replacement: Replacement,
    context: OperationContext,
) -> Moved:
    psql = find_tool("psql", plan.target.server.major, request.pg_bin)
    jobs, piped = _side_by_side(request, plan, ends)
    context.step("copy rows", 0, None)
    parcels = parted([it.parcel for it in routes if it.parcel], jobs if piped else 1)
    return move_rows(
        parcels,
        replacement.incoming,
        application=context.application,
        jobs=jobs,
        psql=psql if piped else None,
        poll=context.check_cancelled,
        progress=lambda done, total: context.step("copy rows", done, total),
    )


def _side_by_side(request: CopyRequest, plan: CopyPlan, ends: Ends) -> tuple[int, bool]:
    """How many may read at once, and whether each may use a second connection."""
    jobs, piped = request.jobs, True
    for end in ends.all:
        free = _free_connections(plan, end, ends)
        if free is not None and free < 2 * jobs:  # a worker keeps one, and pipes through another
            jobs, piped = max(1, min(jobs, free)), False
    return jobs, piped


def _free_connections(plan: CopyPlan, end: End, ends: Ends) -> int | None:
    """How many more sessions the database's own limit lets in; None where it has none."""
    facts = (plan.source if end is ends.source else plan.target).database
    if facts is None or facts.connection_limit < 0:
        return None
    return facts.connection_limit - session_count(end.connection, facts.name) - 1  # who asks


def _copy_large_objects(
    request: CopyRequest,
    plan: CopyPlan,
    ends: Ends,
    masks: MaskPlan | None,
    replacement: Replacement,
    context: OperationContext,
) -> None:
    giver = ends.target if request.part == "schema" and ends.target else ends.source
    if masks and not masks.large_objects:
        return
    if not fetch_value(giver.connection, "SELECT count(*) FROM pg_largeobject_metadata"):
        return
    context.step("large objects")
    major, poll = plan.target.server.major, context.check_cancelled
    with archive.dump(
        find_tool("pg_dump", major, request.pg_bin),
        giver.origin.params,
        snapshot=giver.origin.snapshot,
        options=["--data-only", "--blobs", "--exclude-table-data=*.*"],
    ) as child:
        archive.restore(
            find_tool("pg_restore", major, request.pg_bin),
            replacement.incoming,
            _dumped_chunks(child, poll),
            poll=poll,
            options=("--no-owner", "--no-privileges"),
        )


def _dumped_chunks(child: Child, poll: Poll) -> Iterator[bytes]:
    """What pg_dump writes; why it failed is told before what that means for who reads it."""
    yield from child.read(poll)
    child.wait(poll)


def _set_sequences(
    request: CopyRequest, ends: Ends, routes: list[Route], replacement: Replacement
) -> None:
    """Each sequence where the one stands that numbered the rows which arrived; one that is new in
    this schema stays where the load left it."""
    givers = {route.table: route.giver for route in routes}
    for route in routes:  # of a partitioned table, whose partitions have routes
        givers.setdefault(ends.defining.tables[route.table].root, route.giver)
    positions = {id(end): sequences.sequence_positions(end.connection) for end in ends.all}
    found: dict[str, sequences.SequencePosition] = {}
    for end in ends.all:
        for position in positions[id(end)]:
            giver = givers.get(position.table or "")
            if giver is end or (giver is None and end is _rows_end(request, ends)):
                found[position.name] = position
    with session(replacement.incoming) as incoming:
        known = {it.name for it in sequences.sequence_positions(incoming)}
        sequences.set_sequences(incoming, [it for name, it in found.items() if name in known])


def _rows_end(request: CopyRequest, ends: Ends) -> End:
    """Where rows come from that no table decides."""
    return ends.target if request.part == "schema" and ends.target else ends.source


def _refresh(defining: End, replacement: Replacement, context: OperationContext) -> None:
    filled = views.populated_views(defining.connection)
    if filled:
        context.step("materialised views")
        with session(replacement.incoming, application=context.application) as incoming:
            views.refresh_views(incoming, filled, context.check_cancelled)


def _expected(
    ends: Ends,
    moved: Moved,
    masks: MaskPlan | None,
    how: archive_load.Load,
    context: OperationContext,
) -> Fingerprint:
    """What the new database has to be: the schema as defined, with the rows that travelled."""
    look = take_fingerprint(ends.defining.connection, context.check_cancelled, counted=moved.rows)
    objects = dict(look.objects or {})
    if ends.target is not None or (masks and not masks.large_objects):
        objects.pop("large objects", None)
    return replace(
        look,
        objects=objects,
        sequences=None,  # they were put where they stood just now, and may have gone on there
        grants_digest=None if how.options else look.grants_digest,
        history=0,  # what happened to rows elsewhere is nothing of this environment's
    )


def _prove(
    request: CopyRequest,
    expected: Fingerprint,
    moved: Moved,
    replacement: Replacement,
    context: OperationContext,
) -> Fingerprint:
    unmasked = came_unmasked(request)
    with ThreadPoolExecutor(1) as pool:  # neither minds the other, and each takes a while
        settled = pool.submit(settle, replacement, context, unmasked)
        proven = prove(replacement, expected, context, moved.rows)
        settled.result()
    if proven.trigger_digest != expected.trigger_digest:
        raise ProofError(
            f"The triggers of {replacement.target.environment} did not arrive as they were."
        )
    return proven
