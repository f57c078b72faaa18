"""Whether the patterns of a copy mean any table: whoever wrote one meant something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbops.exceptions import PreflightError
from dbops.operations.guards import Endpoint
from dbops.postgres.connection import session
from dbops.postgres.shapes import TableFacts, named, table_facts


def require_known(
    preserve: Sequence[str], exclude: Sequence[str], defining: Endpoint, target: Endpoint
) -> None:
    """Refuse a pattern that fits no table, and rows kept for which there will be none.

    Args:
        defining: whose schema the copy will have.
        target: whose rows are preserved.

    Raises:
        PreflightError: the pattern is named.
    """
    if not preserve and not exclude:
        return
    there = _tables(defining)
    if preserve:
        _require_place(preserve, _tables(target), there, defining.environment)
    for option, patterns in (("preserve", preserve), ("exclude", exclude)):
        for pattern in patterns:
            if not named(there.values(), (pattern,)):
                raise PreflightError(
                    f"--{option} {pattern} matches no table of {defining.environment}.",
                    hint="A pattern without a dot means tables of any schema: 'audit_*'",
                )


def _tables(endpoint: Endpoint) -> dict[str, TableFacts]:
    with session(endpoint.params) as connection:
        return table_facts(connection, shapes=False)


def _require_place(
    preserve: Sequence[str],
    kept: Mapping[str, TableFacts],
    there: Mapping[str, TableFacts],
    environment: str,
) -> None:
    for pattern in preserve:
        meant = named(kept.values(), (pattern,))
        lost = [it.table for it in meant if it.table not in there and it.root not in there]
        if lost:
            raise PreflightError(
                f"--preserve {pattern}: the schema of {environment} has no table "
                f"{', '.join(lost[:3])}, so its rows have no place there.",
                hint="--data-only keeps the schema, too.",
            )
