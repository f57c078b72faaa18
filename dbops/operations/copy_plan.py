"""What a copy is asked for, what is in its way, and how its rows will travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dbops.exceptions import PolicyError, PreflightError, SameDatabaseError, UsageError
from dbops.masking.plan import MaskPlan, plan_masks
from dbops.masking.rules import Rules
from dbops.operations.copy_patterns import require_known
from dbops.operations.guards import (
    Endpoint,
    check_stamp,
    inspect_endpoint,
    require_can_replace,
    require_existing,
    require_not_newer,
)
from dbops.postgres import catalog, roles
from dbops.postgres.connection import Connection, apply_settings, session
from dbops.postgres.databases import MAINTENANCE, session_count
from dbops.postgres.params import ConnectionParams
from dbops.postgres.pump import READING
from dbops.postgres.shapes import TableFacts, named, table_facts
from dbops.postgres.stamp import read_unmasked
from dbops.postgres.triggers import Wishes
from dbops.wording import counted

STRATEGIES = ("auto", "template", "stream", "dump")
PARTS = ("full", "schema", "data")
VERIFICATIONS = ("counts", "checksum")
SMALL = 64 << 20
"""Bytes of a database below which one pg_dump and pg_restore are done sooner than several workers
are under way."""
FOLLOWS_THE_SCHEMA = "django_migrations"
"""The table whose rows say which schema this is: it goes where the schema goes."""


@dataclass(frozen=True)
class Masking:
    """By which rules values are masked, and the key that makes the same of the same."""

    rules: Rules
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class CopyRequest:
    """Which database to copy over which, and how much of it."""

    source: ConnectionParams
    source_environment: str
    target: ConnectionParams
    target_environment: str
    part: str = "full"
    """``schema``: the target takes the source's schema and keeps its rows; ``data``: it keeps its
    schema and takes the rows."""
    strategy: str = "auto"
    masking: Masking | None = None
    unmasked: bool = False
    """Patient data may arrive as it is."""
    protected: bool = False
    """The source is a protected environment."""
    exclude: tuple[str, ...] = ()
    """Patterns of tables that arrive empty."""
    preserve: tuple[str, ...] = ()
    """Patterns of tables that keep the target's rows."""
    drop_misfits: bool = False
    verify: str = "counts"
    disconnect_source: bool = False
    jobs: int = 1
    defuse: tuple[str, ...] = ()
    """Patterns of tables whose rows mean something in their own environment only."""
    triggers: Wishes = field(default_factory=Wishes)
    pg_bin: Path | None = None

    @property
    def is_plain(self) -> bool:
        """Everything arrives as it is, so that files can be copied."""
        chosen = self.exclude or self.preserve
        return self.part == "full" and self.masking is None and not chosen


@dataclass(frozen=True)
class CopyPlan:
    """What :func:`plan_copy` found: nothing in the way, and how the rows would travel."""

    source: Endpoint
    target: Endpoint
    strategy: str
    reason: str
    """Why that strategy, as half a sentence."""


@dataclass(frozen=True)
class CopySurvey:
    """What a dry run tells beyond the plan."""

    tables: int
    rows: int
    """As PostgreSQL's statistics estimate them."""
    bytes: int
    masks: Mapping[str, tuple[str, ...]]
    """{"schema.table": masked columns}."""
    emptied: tuple[str, ...]
    preserved: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def masked_columns(self) -> int:
        return sum(map(len, self.masks.values()))


def plan_copy(request: CopyRequest) -> CopyPlan:
    """Look at both ends without writing.

    Raises:
        UsageError: choices that exclude each other.
        SameDatabaseError, StampError, PolicyError, PrivilegeError, PreflightError,
            VersionMismatchError: the copy would be refused.
    """
    _check_request(request)
    source = inspect_endpoint(request.source, request.source_environment)
    target = inspect_endpoint(request.target, request.target_environment)
    with session(request.source.with_database(MAINTENANCE)) as control:
        busy = session_count(control, request.source.database)
    require_existing(source)
    if request.part != "full" or request.preserve:
        require_existing(target)
    _require_different(source, target)
    check_stamp(source, writing=False)
    check_stamp(target, writing=True)
    require_can_replace(target)
    require_not_newer(f"The {source.environment} database", source.server.major, target.server)
    defining = target if request.part == "data" else source
    require_known(request.preserve, request.exclude, defining, target)
    _require_masks(request)
    return CopyPlan(source, target, *choose_strategy(request, source, target, busy))


def _check_request(request: CopyRequest) -> None:
    for value, known, option in (
        (request.strategy, STRATEGIES, "strategy"),
        (request.part, PARTS, "part"),
        (request.verify, VERIFICATIONS, "verify"),
    ):
        if value not in known:
            raise UsageError(f"Unknown {option} {value!r}.", hint=f"One of: {', '.join(known)}")
    if request.part == "schema" and (request.exclude or request.preserve):
        raise UsageError(
            "--schema-only takes no rows of the source: no --exclude and no --preserve."
        )
    if request.strategy in ("template", "dump") and not request.is_plain:
        raise UsageError(
            f"Strategy {request.strategy} copies everything as it is: no masks, no --exclude, "
            f"--preserve, --schema-only or --data-only with it.",
            hint="--strategy stream, or none: it is chosen by itself.",
        )
    if request.disconnect_source and request.strategy not in ("auto", "template"):
        raise UsageError("--disconnect-source is for strategy template.")


def _require_different(source: Endpoint, target: Endpoint) -> None:
    if source.identity == target.identity:
        raise SameDatabaseError(
            f"{source.environment} ({source.params.label}) and {target.environment} "
            f"({target.params.label}) are one and the same database.",
            hint="Give them different databases: python manage.py show_db_config shows them",
        )


def _require_masks(request: CopyRequest) -> None:
    """What came unmasked out of a protected environment stays protected on its next way."""
    if request.masking or request.unmasked or request.part == "schema":
        return
    with session(request.source) as connection:
        origin = read_unmasked(connection)
    if origin and origin != request.target_environment:
        raise PolicyError(
            f"{request.source_environment} holds unmasked data of {origin}, which would arrive in "
            f"{request.target_environment}.",
            hint="--mask masks it; --no-mask if that is what you want",
        )


def choose_strategy(
    request: CopyRequest, source: Endpoint, target: Endpoint, busy: int
) -> tuple[str, str]:
    """(strategy, why), for a source on which ``busy`` sessions are."""
    one_server = source.server.system_identifier == target.server.system_identifier
    if request.disconnect_source:
        busy = 0
    if request.strategy == "template":
        if not one_server:
            raise PreflightError("Strategy template needs both databases on one server.")
        if busy:
            raise PreflightError(
                f"Strategy template needs nobody on {source.params.database}; "
                f"{counted(busy, 'session is', 'sessions are')}.",
                hint="Use --strategy stream, close the sessions, or --disconnect-source.",
            )
    if request.strategy != "auto":
        return request.strategy, "as asked"
    if not request.is_plain:
        return "stream", _why_not_plain(request)
    if one_server and not busy and _may_clone(source) and _alike(source, target):
        return "template", f"one server, and nobody is on {source.params.database}"
    why = (
        "two servers" if not one_server
        else f"{counted(busy, 'session')} on {source.params.database}" if busy
        else f"{source.params.database} belongs to another role"
        if not _may_clone(source)
        else "the target keeps its own encoding and locale"
    )  # fmt: skip
    if require_existing(source).size < SMALL:
        return "dump", f"{why}, and it is small"
    with session(source.params) as connection:
        keeping = catalog.extensions_with_rows(connection)
    if keeping:
        return "dump", f"{why}, and extension {', '.join(keeping)} keeps rows of its own"
    return "stream", why


def _why_not_plain(request: CopyRequest) -> str:
    if request.masking is not None:
        return "values are masked on the way"
    if request.part != "full":
        return "schema and rows come from different databases"
    return "not every table's rows are copied"


def _alike(source: Endpoint, target: Endpoint) -> bool:
    """Whether a copy of the files would have the target's encoding and locale."""
    if source.database is None or target.database is None:
        return True
    ours, theirs = source.database.row, target.database.row
    return all(
        ours.get(key) == theirs.get(key)
        for key in ("encoding", "datcollate", "datctype", "datlocprovider", "datlocale",
                    "daticulocale")
    )  # fmt: skip


def _may_clone(source: Endpoint) -> bool:
    if source.server.superuser or source.database is None:
        return source.server.superuser
    with session(source.params.with_database(MAINTENANCE)) as control:
        return roles.may_act_as(control, [source.database.owner])


def came_unmasked(request: CopyRequest) -> str:
    """The protected environment whose rows the copy holds as they were; "" for none."""
    giving = [request.target] if request.part != "full" or request.preserve else []
    if request.part != "schema" and request.masking is None:
        if request.protected:
            return request.source_environment
        giving.append(request.source)
    for database in giving:
        with session(database) as connection:
            if origin := read_unmasked(connection):
                return origin
    return ""


def survey_copy(request: CopyRequest, plan: CopyPlan) -> CopySurvey:
    """What would travel, for a dry run. Raises what would stop the copy once it looks closer."""
    with session(request.source) as connection:
        apply_settings(connection, READING)  # somebody waits for the answer, perhaps on a page
        tables = table_facts(connection)
        masks = masks_of(request, connection, tables)
    leaves = {name: facts for name, facts in tables.items() if not facts.partitioned}
    preserved = [it.table for it in named(leaves.values(), request.preserve)]
    emptied = [it.table for it in named(leaves.values(), request.exclude)]
    emptied += [name for name in leaves if masks and name in masks.emptied]
    emptied = sorted(set(emptied) - set(preserved))
    if request.part == "schema":
        with session(request.target) as connection:
            leaves = {
                name: it for name, it in table_facts(connection).items() if not it.partitioned
            }
    travelling = [leaves[name] for name in leaves.keys() - {*emptied, *preserved}]
    columns = masks.columns if masks else {}
    return CopySurvey(
        tables=len(leaves),
        rows=sum(facts.estimated_rows for facts in travelling),
        bytes=sum(facts.bytes for facts in travelling),
        masks={
            name: tuple(columns[name])
            for name in sorted(columns)
            if columns[name] and name in leaves and name not in {*preserved, *emptied}
        },
        emptied=tuple(emptied),
        preserved=tuple(sorted(preserved)),
        notes=masks.notes if masks else (),
    )


def masks_of(
    request: CopyRequest, source: Connection, tables: Mapping[str, TableFacts]
) -> MaskPlan | None:
    """The masks of what leaves the source, None where nothing is to be masked.

    Raises:
        MaskingError: a column is covered by no rule and its rows would leave.
    """
    if request.masking is None or request.part == "schema":
        return None
    patterns = (*request.exclude, *request.preserve, *request.defuse)
    staying = [
        it.table
        for it in named(tables.values(), patterns)
        if it.table.split(".", 1)[1] != FOLLOWS_THE_SCHEMA
    ]
    masks = plan_masks(source, request.masking.rules, staying)
    masks.require_complete()
    return masks
