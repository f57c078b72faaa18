"""What a database held when it was copied or dumped, and whether what was built holds the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dbops.postgres import catalog, roles, sequences, triggers, views
from dbops.postgres.connection import Connection
from dbops.postgres.process import Poll
from dbops.postgres.triggers import history
from dbops.wording import counted


@dataclass(frozen=True)
class Fingerprint:
    """Rows per table, and the flaws the source had itself: a faithful copy has no others."""

    tables: Mapping[str, int]
    """{"schema.table": rows}."""
    unvalidated: frozenset[str]
    invalid_indexes: frozenset[str]
    sequences_behind: frozenset[str]
    extensions: frozenset[str]
    trigger_digest: str
    objects: Mapping[str, int] | None = None
    """How many of each kind; None, here and below, in what an earlier version wrote."""
    unpopulated: frozenset[str] = frozenset()
    """Materialised views never refreshed."""
    sequences: Mapping[str, int | None] | None = None
    """Last values, of those that stood still while the dump was made."""
    grants_digest: str | None = None
    checksums: Mapping[str, str] | None = None
    """Order-independent, per table; only where they were asked for."""
    history: int | None = None
    """Rows of the row history, which belongs to no user's table; None where there is none."""

    @property
    def rows(self) -> int:
        return sum(self.tables.values())

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        plain = asdict(self)
        return {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in plain.items()
            if value is not None
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Fingerprint:
        """The inverse of :meth:`to_json`."""
        plain: dict[str, Any] = {
            key: frozenset(value) if isinstance(value, list) else value
            for key, value in content.items()
        }
        return cls(**plain)


def take_fingerprint(
    connection: Connection,
    poll: Poll,
    *,
    checksums: bool = False,
    counted: Mapping[str, int] | None = None,
) -> Fingerprint:
    """Fingerprint of the connected database under the connection's current snapshot.

    Args:
        counted: rows per table, where they were counted on the way; of others, none.
    """
    if counted is None:
        tables = catalog.count_rows(connection, poll)
    else:
        tables = {table.label: counted.get(table.label, 0) for table in catalog.tables(connection)}
    return Fingerprint(
        tables=tables,
        unvalidated=frozenset(catalog.unvalidated_constraints(connection)),
        invalid_indexes=frozenset(catalog.invalid_indexes(connection)),
        sequences_behind=frozenset(catalog.sequences_behind(connection, poll)),
        extensions=frozenset(catalog.extensions(connection)),
        trigger_digest=triggers.digest(connection),
        objects=catalog.object_counts(connection),
        unpopulated=frozenset(views.unpopulated_views(connection)),
        sequences=sequences.sequence_values(connection),
        grants_digest=roles.grants_digest(connection),
        checksums=catalog.checksum_rows(connection, poll) if checksums else None,
        history=history.count(connection),
    )


def standing_still(
    connection: Connection, before: Mapping[str, int | None]
) -> dict[str, int | None]:
    """Those sequences that stand where they stood before: they know no snapshot, so of one that
    moved during a dump nobody can say what was dumped."""
    now = sequences.sequence_values(connection)
    return {name: value for name, value in before.items() if now.get(name) == value}


def differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Sentences on how ``actual`` falls short of ``expected``; [] where it is proven.

    Triggers are compared by whoever knows whether they were to be carried or installed anew.
    """
    return [
        *row_differences(expected, actual),
        *structure_differences(expected, actual),
        *sequence_differences(expected, actual),
        *checksum_differences(expected, actual),
    ]


def row_differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Sentences on tables that hold another number of rows, are missing, or were not expected."""
    found = [
        f"{table} holds {_count(actual.tables.get(table))} instead of {counted(rows, 'row')}"
        for table, rows in sorted(expected.tables.items())
        if actual.tables.get(table) != rows
    ]
    if expected.history is not None and expected.history != (actual.history or 0):
        found.append(
            f"{history.TABLE} holds {actual.history or 0} instead of "
            f"{counted(expected.history, 'row')}"
        )
    return found + _listed("unexpected table", actual.tables.keys() - expected.tables.keys())


def structure_differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Sentences on what is missing, or not valid without having been so at the source."""
    found = _listed("constraint not valid", actual.unvalidated - expected.unvalidated)
    found += _listed("index not valid", actual.invalid_indexes - expected.invalid_indexes)
    found += _listed("sequence behind", actual.sequences_behind - expected.sequences_behind)
    found += _listed("extension missing", expected.extensions - actual.extensions)
    found += _listed("materialised view empty", actual.unpopulated - expected.unpopulated)
    if expected.objects is not None:
        there = actual.objects or {}
        found += [
            f"{there.get(kind, 0)} instead of {count} {kind}"
            for kind, count in expected.objects.items()
            if there.get(kind, 0) != count
        ]
    return found


def sequence_differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Sentences on sequences that stand elsewhere."""
    there = actual.sequences or {}
    return [
        f"sequence {name} stands at {there.get(name)} instead of {value}"
        for name, value in sorted((expected.sequences or {}).items())
        if there.get(name) != value
    ]


def checksum_differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Sentences on tables whose rows are not the same; [] where none were computed."""
    if expected.checksums is None or actual.checksums is None:
        return []
    return [
        f"the rows of {table} are not the same"
        for table, value in sorted(expected.checksums.items())
        if actual.checksums.get(table) != value
    ]


def _count(rows: int | None) -> str:
    return "no table" if rows is None else str(rows)


def _listed(what: str, names: Iterable[str]) -> list[str]:
    return [f"{what}: {name}" for name in sorted(names)]
