"""What a database held when it was copied or dumped, and whether what was built holds the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dbops.postgres import catalog, triggers
from dbops.postgres.connection import Connection
from dbops.postgres.process import Poll


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

    @property
    def rows(self) -> int:
        return sum(self.tables.values())

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        plain = asdict(self)
        return {
            key: sorted(value) if isinstance(value, frozenset) else value
            for key, value in plain.items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Fingerprint:
        """The inverse of :meth:`to_json`."""
        plain: dict[str, Any] = {
            key: frozenset(value) if isinstance(value, list) else value
            for key, value in content.items()
        }
        return cls(**plain)


def take_fingerprint(connection: Connection, poll: Poll) -> Fingerprint:
    """Fingerprint of the connected database under the connection's current snapshot."""
    return Fingerprint(
        tables=catalog.count_rows(connection, poll),
        unvalidated=frozenset(catalog.unvalidated_constraints(connection)),
        invalid_indexes=frozenset(catalog.invalid_indexes(connection)),
        sequences_behind=frozenset(catalog.sequences_behind(connection, poll)),
        extensions=frozenset(catalog.extensions(connection)),
        trigger_digest=triggers.digest(connection),
    )


def differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Sentences on how ``actual`` falls short of ``expected``; [] where it is proven.

    Triggers are compared by whoever knows whether they were to be carried or installed anew.
    """
    found = [
        f"{table} holds {_count(actual.tables.get(table))} instead of {rows} rows"
        for table, rows in sorted(expected.tables.items())
        if actual.tables.get(table) != rows
    ]
    found += _listed("unexpected table", actual.tables.keys() - expected.tables.keys())
    found += _listed("constraint not valid", actual.unvalidated - expected.unvalidated)
    found += _listed("index not valid", actual.invalid_indexes - expected.invalid_indexes)
    found += _listed("sequence behind", actual.sequences_behind - expected.sequences_behind)
    found += _listed("extension missing", expected.extensions - actual.extensions)
    return found


def _count(rows: int | None) -> str:
    return "no table" if rows is None else str(rows)


def _listed(what: str, names: Iterable[str]) -> list[str]:
    return [f"{what}: {name}" for name in sorted(names)]
