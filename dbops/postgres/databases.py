"""Whole databases: what they are, making and dropping them, what hangs on them from outside.

Functions that take a connection want one to the server's maintenance database (``postgres``).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from psycopg2 import sql

from dbops.exceptions import ConnectionFailedError, ForeignDumpError, StatementError
from dbops.postgres.connection import (
    Connection,
    execute,
    fetch_all,
    fetch_all_polled,
    fetch_row,
    fetch_value,
    session,
)
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Poll

MAINTENANCE = "postgres"
_NAME_BYTES = 63
_SHARING = {"btrfs", "xfs", "zfs", "bcachefs", "ocfs2", "apfs"}
"""File systems of which two files can share blocks until one is written."""
_SCRATCH = re.compile(r"__(?P<role>incoming|previous)_(?P<operation>[0-9a-f]{12})\Z")


@dataclass(frozen=True)
class ServerFacts:
    """What decides which tools fit and what the connecting role may do."""

    version: str
    major: int
    system_identifier: str
    role: str
    superuser: bool
    can_create_databases: bool
    port: int
    data_directory: str | None
    """None where the connecting role may not know it."""


@dataclass(frozen=True)
class DatabaseFacts:
    """One row of pg_database with what hangs on it."""

    name: str
    oid: int
    owner: str
    size: int
    encoding: str
    connection_limit: int
    comment: str | None
    grants: tuple[tuple[str, str, bool], ...] | None
    """(grantee or "", privilege, grantable); None where the defaults apply."""
    settings: tuple[tuple[str, str, str], ...]
    """(role or "" for everyone, name, value)."""
    row: Mapping[str, Any]
    """The catalogue row as the server has it: column names differ between majors."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DatabaseFacts:
        """The inverse of :meth:`to_json`."""
        grants, settings = content["grants"], content["settings"]
        return cls(
            **{
                **content,
                "grants": None if grants is None else tuple((g, p, o) for g, p, o in grants),
                "settings": tuple((role, key, value) for role, key, value in settings),
            }
        )


def settled(params: ConnectionParams) -> ConnectionParams:
    """The same by the one of several hosts to which libpq leads now.

    All sessions and tools of an operation have to be on one server. And libpq does not go on to
    the next host where one answers that it knows no such database, as a standby does of one that
    was made a moment ago.
    """
    if "," not in params.host:
        return params
    try:
        with session(params.with_database(MAINTENANCE)) as connection:
            return replace(params, host=connection.info.host, port=connection.info.port)
    except ConnectionFailedError:
        return params  # whoever uses them hears why


def server_facts(connection: Connection) -> ServerFacts:
    """Facts about the server and about whom we connected as."""
    row = fetch_row(
        connection,
        """SELECT current_setting('server_version'), current_setting('server_version_num')::int,
                  (SELECT system_identifier::text FROM pg_control_system()),
                  rolname, rolsuper, rolcreatedb OR rolsuper, current_setting('port')::int,
                  CASE WHEN pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')
                       THEN current_setting('data_directory') END
             FROM pg_roles WHERE rolname = current_user""",
    )
    assert row is not None
    version, number, *rest = row
    return ServerFacts(version.split()[0], number // 10000, *rest)


def free_space(server: ServerFacts) -> int | None:
    """Bytes free where the server keeps its data; None where that is another machine, or ours to
    guess: the directory must hold the very server that listens on that port."""
    if server.data_directory is None:
        return None
    directory = Path(server.data_directory)
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
        if lines[3] != str(server.port):
            return None
        status = os.statvfs(directory)
    except (OSError, IndexError):
        return None
    return status.f_bavail * status.f_frsize


def database_facts(connection: Connection, name: str) -> DatabaseFacts | None:
    """Facts about one database, or None where there is none of that name."""
    row = fetch_row(
        connection,
        """SELECT d.oid, pg_get_userbyid(d.datdba), pg_database_size(d.oid),
                  pg_encoding_to_char(d.encoding), d.datconnlimit,
                  shobj_description(d.oid, 'pg_database'), d.datacl IS NULL, to_jsonb(d) - 'datacl'
             FROM pg_database d WHERE d.datname = %s""",
        [name],
    )
    if row is None:
        return None
    oid, owner, size, encoding, limit, comment, default_acl, whole = row
    return DatabaseFacts(
        name, oid, owner, size, encoding, limit, comment,
        None if default_acl else _grants(connection, oid),
        _settings(connection, oid), whole,
    )  # fmt: skip


def _grants(connection: Connection, oid: int) -> tuple[tuple[str, str, bool], ...]:
    rows = fetch_all(
        connection,
        """SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee) END,
                  a.privilege_type, a.is_grantable
             FROM pg_database d, aclexplode(d.datacl) a WHERE d.oid = %s ORDER BY 1, 2""",
        [oid],
    )
    return tuple((grantee, privilege, grantable) for grantee, privilege, grantable in rows)


def _settings(connection: Connection, oid: int) -> tuple[tuple[str, str, str], ...]:
    rows = fetch_all(
        connection,
        """SELECT CASE WHEN r.setrole = 0 THEN '' ELSE pg_get_userbyid(r.setrole) END,
                  split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)
             FROM pg_db_role_setting r, unnest(r.setconfig) s
            WHERE r.setdatabase = %s""",
        [oid],
    )
    return tuple((role, name, value) for role, name, value in rows)


def scratch_name(target: str, role: str, operation: str) -> str:
    """``<target>__<role>_<operation>`` within the 63 bytes a name may have.

    A name that has to be cut gets a digest of the whole one: two databases that begin alike must
    not share their scratch names, or one would drop what is kept of the other.

    Args:
        role: ``incoming`` or ``previous``.
        operation: 12 hexadecimal digits.
    """
    suffix = f"__{role}_{operation}"
    whole = target.encode()
    room = _NAME_BYTES - len(suffix)
    if len(whole) <= room:
        return target + suffix
    digest = "~" + hashlib.sha256(whole).hexdigest()[:8]
    return whole[: room - len(digest)].decode(errors="ignore") + digest + suffix


def operation_of_scratch(name: str) -> tuple[str, str] | None:
    """(role, operation) of a database name made by :func:`scratch_name`, else None."""
    match = _SCRATCH.search(name)
    return (match["role"], match["operation"]) if match else None


def find_kept(target: ConnectionParams, operation: str) -> DatabaseFacts | None:
    """The database that ``operation`` replaced under the name of ``target``, while it is kept."""
    with session(target.with_database(MAINTENANCE)) as control:
        return database_facts(control, scratch_name(target.database, "previous", operation))


def scratch_databases(connection: Connection) -> list[str]:
    """Every database on the server that bears a scratch name and that we may drop."""
    rows = fetch_all(
        connection,
        """SELECT datname FROM pg_database
            WHERE datname ~ '__(incoming|previous)_[0-9a-f]{12}$'
              AND pg_has_role(datdba, 'USAGE') ORDER BY datname""",
    )
    return [name for (name,) in rows]


def require_shared_untouched(connection: Connection, dump: str) -> None:
    """Refuse to commit what has written to catalogues that all databases of the server share.

    A change of roles, databases or their settings holds its lock until the transaction ends; a
    grant does not, but leaves the transaction's number on the row.

    Args:
        dump: the name of what ran in the open transaction.

    Raises:
        ForeignDumpError: it has.
    """
    rows = fetch_all(
        connection,
        """SELECT c.relname::text FROM pg_catalog.pg_locks l
             JOIN pg_catalog.pg_class c ON c.oid = l.relation
            WHERE l.pid = pg_catalog.pg_backend_pid() AND l.database = 0
              AND l.mode = 'RowExclusiveLock' AND c.relname IN ('pg_authid', 'pg_auth_members',
                  'pg_database', 'pg_db_role_setting', 'pg_tablespace', 'pg_subscription')
           UNION SELECT 'pg_database' FROM pg_catalog.pg_database
            WHERE xmin = pg_catalog.pg_current_xact_id()::pg_catalog.xid ORDER BY 1""",
    )
    if rows:
        raise ForeignDumpError(
            f"{dump} would have changed roles or other databases of the server "
            f"({', '.join(name for (name,) in rows)})."
        )


def copy_files(connection: Connection, name: str, template: str, poll: Poll) -> None:
    """``CREATE DATABASE name TEMPLATE template`` by copying files.

    Nobody may be connected to the template. Where the file system can share blocks, ``clone`` lets
    it; elsewhere that takes longer than a plain copy (benchmarks/copy.py), and the server goes by
    its own setting.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
        sql.Identifier(name), sql.Identifier(template)
    )
    if _has_setting(connection, "file_copy_method") and _shares_blocks(server_facts(connection)):
        execute(connection, "SET file_copy_method = clone")
        try:
            fetch_all_polled(connection, statement, poll)
            return
        except StatementError as error:
            if "clone" not in str(error) and "copy_file_range" not in str(error):
                raise
            execute(connection, "RESET file_copy_method")
    fetch_all_polled(connection, statement, poll)


def _shares_blocks(server: ServerFacts) -> bool:
    """Whether the server's files lie on this machine, in a file system known to share blocks."""
    if free_space(server) is None or server.data_directory is None:
        return False
    directory = os.path.realpath(server.data_directory)
    types = {
        part.mountpoint: part.fstype
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath([part.mountpoint, directory]) == part.mountpoint
    }
    return bool(types) and types[max(types, key=len)] in _SHARING


def _has_setting(connection: Connection, name: str) -> bool:
    return bool(fetch_value(connection, "SELECT 1 FROM pg_settings WHERE name = %s", [name]))


def drop_database(connection: Connection, name: str) -> None:
    """Drop it if it exists, ending the sessions that are on it.

    FORCE comes last: it refuses an ordinary role where an autovacuum worker is on the database,
    which the plain form ends by itself.
    """
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    fetch_all(
        connection,
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = %s AND usesysid IS NOT NULL AND pg_has_role(usesysid, 'USAGE')""",
        [name],
    )
    try:
        execute(connection, statement)
    except StatementError:
        execute(connection, statement + sql.SQL(" WITH (FORCE)"))


def session_count(connection: Connection, name: str) -> int:
    """How many client sessions are on a database now."""
    count = fetch_value(
        connection,
        """SELECT count(*) FROM pg_stat_activity
            WHERE datname = %s AND usename IS NOT NULL AND pid <> pg_backend_pid()""",
        [name],
    )
    return int(count)
