"""Whether rows arrived as they were sent, value by value."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from dbops.exceptions import ProofError
from dbops.operations.context import OperationContext
from dbops.postgres.connection import (
    WRITTEN,
    Connection,
    apply_settings,
    fetch_all_polled,
    session,
)
from dbops.postgres.names import quoted, quoted_name
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Poll
from dbops.postgres.pump import READING
from dbops.postgres.snapshot import look_through
from dbops.postgres.stream import Parcel
from dbops.postgres.together import Job, run_together

# As in catalog.checksum_rows, over what was read rather than over the table.
_SUM = """SELECT count(*), coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint), 0)
            FROM ({}) t"""


def require_equal_rows(
    parcels: Sequence[Parcel], target: ConnectionParams, jobs: int, context: OperationContext
) -> None:
    """Compare checksums of what each parcel reads, under its snapshot, with what was loaded.

    Raises:
        ProofError: tables differ, which are named.
    """
    waiting = sorted(parcels, key=lambda parcel: parcel.bytes)
    different: list[str] = []
    lock = Lock()

    def work(poll: Poll) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                parcel = waiting.pop()
            if _read(parcel, poll) != _loaded(parcel, target, poll):
                different.append(parcel.table)

    each: list[Job] = [work] * max(1, min(jobs, len(waiting)))
    run_together(each, context.check_cancelled)
    if different:
        raise ProofError(f"The rows of {', '.join(sorted(different)[:3])} are not the same.")


def _read(parcel: Parcel, poll: Poll) -> tuple[int, int]:
    with session(parcel.origin.params) as connection:
        look_through(connection, parcel.origin.snapshot)
        apply_settings(connection, READING)
        return _sum(connection, parcel.source, poll)


def _loaded(parcel: Parcel, target: ConnectionParams, poll: Poll) -> tuple[int, int]:
    columns = ", ".join(map(quoted_name, parcel.columns))
    only = "" if parcel.whole_tree else "ONLY "
    with session(target) as connection:
        return _sum(connection, f"SELECT {columns} FROM {only}{quoted(parcel.table)}", poll)


def _sum(connection: Connection, query: str, poll: Poll) -> tuple[int, int]:
    apply_settings(connection, WRITTEN)
    count, total = fetch_all_polled(connection, _SUM.format(query), poll)[0]
    return int(count), int(total)
