"""One operation at a time per target: an advisory lock in the server's maintenance database.

Advisory locks are per database, so all of Skinspire takes them in ``postgres``, which is never
replaced. The lock is a session's: it goes the moment its holder dies, however it dies.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from dbops.exceptions import LockedError
from dbops.postgres.connection import Connection, fetch_all, fetch_value, session
from dbops.postgres.databases import MAINTENANCE
from dbops.postgres.params import ConnectionParams

_CLASS = 0x534B4E53  # "SKNS"
_HOLDER_PREFIX = "skinspire operation "
_held: Counter[tuple[str, int | str, str]] = Counter()
"""What this process holds exclusively."""


def _key(database: str) -> int:
    return zlib.crc32(database.encode()) - (1 << 31)  # the lock's second key is a signed int4


@contextmanager
def database_lock(
    params: ConnectionParams, *, operation: str, exclusive: bool
) -> Iterator[Connection]:
    """Hold the lock on ``params.database`` for the length of the ``with`` block.

    Args:
        operation: id of the operation, which a refused one names.
        exclusive: True to replace the database; False to read it (readers share).

    Raises:
        LockedError: somebody else holds it; ``str(error)`` holds the holders' operation ids.
    """
    function = "pg_try_advisory_lock" if exclusive else "pg_try_advisory_lock_shared"
    maintenance = params.with_database(MAINTENANCE)
    with session(maintenance, application=_HOLDER_PREFIX + operation) as connection:
        key = _key(params.database)
        if not fetch_value(connection, f"SELECT {function}(%s, %s)", [_CLASS, key]):
            raise LockedError(", ".join(_holders(connection, key)) or "unknown")
        held = Counter({_place(params): 1} if exclusive else {})
        _held.update(held)
        try:
            yield connection
        finally:
            _held.subtract(held)


def is_held_here(params: ConnectionParams) -> bool:
    """Whether this very process replaces or changes the database: what it calls meanwhile is part
    of that operation, and must not wait for its lock."""
    return _held[_place(params)] > 0


def _place(params: ConnectionParams) -> tuple[str, int | str, str]:
    return (params.host, params.port, params.database)


def _holders(connection: Connection, key: int) -> list[str]:
    rows = fetch_all(
        connection,
        """SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.granted
              AND l.classid::bigint = %s AND l.objid::bigint = %s::bigint & 4294967295
              AND a.application_name IS NOT NULL""",
        [_CLASS, key],
    )
    return [name.removeprefix(_HOLDER_PREFIX) for (name,) in rows]
