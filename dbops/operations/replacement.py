"""Build aside, prove, swap, keep the old one: the one algorithm of restore, copy and undo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from dbops.exceptions import DbopsError, ProofError
from dbops.operations.context import OperationContext
from dbops.operations.guards import Endpoint
from dbops.postgres import roles
from dbops.postgres.connection import Connection, fetch_all_polled, session
from dbops.postgres.database_properties import carry_over, create_database
from dbops.postgres.databases import (
    MAINTENANCE,
    DatabaseFacts,
    drop_database,
    operation_of_scratch,
    scratch_databases,
    scratch_name,
)
from dbops.postgres.fingerprint import Fingerprint, differences, take_fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import write_stamp
from dbops.postgres.swap import swap_databases

_NO_FLAWS: dict[str, Any] = dict.fromkeys(
    ("unvalidated", "invalid_indexes", "sequences_behind"), frozenset()
)


@dataclass(frozen=True)
class Replacement:
    """A target and the database that is being built to take its place."""

    target: Endpoint
    incoming: ConnectionParams
    previous: str
    like: DatabaseFacts | None = None
    """What the new database takes its encoding, locale, grants and settings from."""

    @property
    def maintenance(self) -> ConnectionParams:
        return self.incoming.with_database(MAINTENANCE)

    def create_empty(self) -> None:
        """Make the incoming database, with the encoding and collation of ``like``."""
        with session(self.maintenance) as control:
            create_database(control, self.incoming.database, self.like)


@dataclass(frozen=True)
class Swapped:
    """What a swap did."""

    outage_ms: float
    previous: str | None


@dataclass(frozen=True)
class ReplacedInPlace:
    """What was replaced without a swap."""

    rows: int
    tables: int
    outage_ms: float
    saved_as: str | None
    """The backup that holds what was there before."""
    defused: Mapping[str, int] = field(default_factory=dict)
    """Rows emptied because they mean nothing in another environment, per table."""


@contextmanager
def building(
    target: Endpoint, context: OperationContext, like: DatabaseFacts | None = None
) -> Iterator[Replacement]:
    """Name the incoming database, and drop it again if anything fails before the swap.

    Args:
        like: what a target that does not exist yet is made like; one that exists keeps its own.
    """
    name = target.params.database
    incoming = scratch_name(name, "incoming", context.operation_id)
    replacement = Replacement(
        target,
        target.params.with_database(incoming),
        scratch_name(name, "previous", context.operation_id),
        target.database or like,
    )
    try:
        yield replacement
    except BaseException:
        # What failed matters more than what could not be cleared up after it.
        try:
            with session(replacement.maintenance) as control:
                drop_database(control, incoming)
        except DbopsError as error:
            context.log(f"{incoming} could not be dropped ({error}): operations sweep will")
        raise


def drop_built(replacement: Replacement, context: OperationContext) -> None:
    """Drop what was built only to be looked at or taken from. By then the deed is done: what
    fails is told, and must not look like failure."""
    try:
        with session(replacement.maintenance) as control:
            drop_database(control, replacement.incoming.database)
    except DbopsError as error:
        context.log(f"{replacement.incoming.database} stays for the sweep: {error}")


def settle(
    replacement: Replacement, context: OperationContext, unmasked: str | None = None
) -> None:
    """After a load: planner statistics, which no dump carries, and the stamp.

    Args:
        unmasked: see :func:`~dbops.postgres.stamp.write_stamp`.
    """
    context.step("analyse")
    with session(replacement.incoming, application=context.application) as connection:
        fetch_all_polled(connection, "ANALYZE", context.check_cancelled)
        write_stamp(connection, replacement.target.environment, unmasked)


def prove(
    replacement: Replacement,
    expected: Fingerprint | None,
    context: OperationContext,
    counted: Mapping[str, int] | None = None,
) -> Fingerprint:
    """Compare what was built with what it was built from.

    Args:
        counted: rows per table, where they were counted as they arrived.
        expected: None for a dump made elsewhere. Of it nothing is known but that it loaded; what
            is flawed in it is told, since it may have been so where it came from.

    Raises:
        ProofError: they differ; the first differences are named.
    """
    context.step("prove")
    with session(replacement.incoming, application=context.application) as connection:
        actual = take_fingerprint(
            connection,
            context.check_cancelled,
            checksums=expected is not None and expected.checksums is not None,
            counted=counted,
        )
    require_equal(expected, actual, context)
    return actual


def require_equal(
    expected: Fingerprint | None, actual: Fingerprint, context: OperationContext
) -> None:
    """Raise ProofError where they differ; of a dump made elsewhere, tell what is flawed."""
    found = differences(expected or replace(actual, **_NO_FLAWS), actual)
    if expected is None:
        for flaw in found:
            context.log(f"As the dump has it: {flaw}")
    elif found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise ProofError(
            f"What was loaded does not equal its source: {'; '.join(found[:3])}{more}."
        )


def swap_in(replacement: Replacement, context: OperationContext) -> Swapped:
    """Give the incoming database the target's place, and drop what an earlier operation kept."""
    context.step("swap")
    target, existing = replacement.target, replacement.target.database
    name = target.params.database
    with session(replacement.maintenance) as control:
        if replacement.like is not None:
            carry_over(control, replacement.like, replacement.incoming.database)
    context.begin_commit()
    previous = replacement.previous if existing else None
    outage = swap_databases(
        target.params, incoming=replacement.incoming.database, target=name, previous=previous
    )
    if previous:
        context.log(f"{name} replaced in {outage:.0f} ms; the old one is kept as {previous}")
    _drop_older(replacement, previous, context)
    return Swapped(outage, previous)


def _drop_older(replacement: Replacement, previous: str | None, context: OperationContext) -> None:
    # The swap is done: what fails from here on is told, and must not look like a failed swap.
    try:
        with session(replacement.maintenance) as control:
            for older in kept_databases(control, replacement.target.params.database):
                if older != previous:
                    drop_database(control, older)
    except DbopsError as error:
        context.log(f"An older kept database could not be dropped: {error}")


def kept_databases(control: Connection, target: str) -> list[str]:
    """The ``__previous_`` databases of a target."""
    found = []
    for name in scratch_databases(control):
        role, operation = operation_of_scratch(name) or ("", "")
        if role == "previous" and name == scratch_name(target, role, operation):
            found.append(name)
    return found


def owner_options(
    control: Connection, owners: list[str], context: OperationContext
) -> tuple[str, ...]:
    """``--no-owner`` for pg_restore where the connecting role may not act for every owner."""
    if roles.may_act_as(control, owners):
        return ()
    context.log(f"Objects will belong to the connecting role, not to {', '.join(owners)}")
    return ("--no-owner",)
