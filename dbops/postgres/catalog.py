"""What a database holds, read from pg_catalog in a few set-wise queries."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2 import sql

from dbops.postgres.connection import Connection, fetch_all, fetch_all_polled, fetch_value
from dbops.postgres.process import Poll

_USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')"
_NOT_OF_EXTENSION = """NOT EXISTS (SELECT 1 FROM pg_depend e
    WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"""


@dataclass(frozen=True)
class Table:
    """A table that holds rows of its own: partitions count, their partitioned parent does not."""

    schema: str
    name: str
    estimated_rows: int

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def tables(connection: Connection) -> list[Table]:
    """Every table with rows of its own, outside the system's and our own schema."""
    rows = fetch_all(
        connection,
        f"""SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::bigint
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND c.relpersistence <> 't'
               AND {_USER_SCHEMA} AND {_NOT_OF_EXTENSION}
             ORDER BY 1, 2""",
    )
    return [Table(schema, name, estimate) for schema, name, estimate in rows]


def count_rows(connection: Connection, poll: Poll) -> dict[str, int]:
    """Exact rows of each table, under the connection's own snapshot: {"schema.table": rows}."""
    counts: dict[str, int] = {}
    for table in tables(connection):
        statement = sql.SQL("SELECT count(*) FROM ONLY {}").format(table.identifier)
        counts[table.label] = int(fetch_all_polled(connection, statement, poll)[0][0])
    return counts


def is_empty(connection: Connection) -> bool:
    """True where nobody has made a table, view, sequence, type or function yet."""
    found = fetch_value(
        connection,
        f"""SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE {_USER_SCHEMA} AND {_NOT_OF_EXTENSION})
                OR EXISTS (SELECT FROM pg_namespace n WHERE {_USER_SCHEMA} AND nspname <> 'public')
                OR EXISTS (SELECT FROM pg_largeobject_metadata)
                OR EXISTS (
                   SELECT FROM (SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc UNION ALL
                                SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
                                ) o (class, id, ns)
                     JOIN pg_namespace n ON n.oid = o.ns
                    WHERE {_USER_SCHEMA} AND NOT EXISTS (
                          SELECT FROM pg_depend e WHERE e.classid = o.class AND e.objid = o.id
                             AND e.deptype = 'e'))""",
    )
    return not found


def extensions(connection: Connection) -> list[str]:
    """Installed extensions, by name; plpgsql, which every database has, is left out."""
    rows = fetch_all(
        connection, "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
    )
    return [name for (name,) in rows]


def available_extensions(connection: Connection) -> set[str]:
    """Extensions the server could install."""
    return {name for (name,) in fetch_all(connection, "SELECT name FROM pg_available_extensions")}


def owners(connection: Connection) -> list[str]:
    """Roles that own something a dump of this database would name."""
    rows = fetch_all(
        connection,
        f"""SELECT pg_get_userbyid(o.owner) FROM (
                SELECT c.relowner AS owner, c.relnamespace AS ns FROM pg_class c
                UNION SELECT p.proowner, p.pronamespace FROM pg_proc p
                UNION SELECT t.typowner, t.typnamespace FROM pg_type t
                UNION SELECT s.nspowner, s.oid FROM pg_namespace s WHERE s.nspname <> 'public'
            ) o JOIN pg_namespace n ON n.oid = o.ns
            WHERE {_USER_SCHEMA} GROUP BY 1 ORDER BY 1""",
    )
    return [name for (name,) in rows]


def grantees(connection: Connection) -> list[str]:
    """Roles to which something in this database is granted, PUBLIC and owners left out."""
    rows = fetch_all(
        connection,
        """SELECT DISTINCT pg_get_userbyid(a.grantee) FROM (
               SELECT relacl AS acl, relowner AS owner FROM pg_class
               UNION ALL SELECT proacl, proowner FROM pg_proc
               UNION ALL SELECT typacl, typowner FROM pg_type
               UNION ALL SELECT nspacl, nspowner FROM pg_namespace
               UNION ALL SELECT defaclacl, defaclrole FROM pg_default_acl
           ) o, aclexplode(o.acl) a
           WHERE a.grantee <> 0 AND a.grantee <> o.owner
             AND pg_get_userbyid(a.grantee) !~ '^pg_' ORDER BY 1""",
    )
    return [name for (name,) in rows]


def missing_roles(connection: Connection, names: list[str]) -> list[str]:
    """Those of ``names`` the server does not know."""
    rows = fetch_all(
        connection,
        "SELECT r FROM unnest(%s::text[]) r WHERE r NOT IN (SELECT rolname FROM pg_roles)",
        [names],
    )
    return [name for (name,) in rows]


def may_act_as(connection: Connection, names: list[str]) -> bool:
    """True where the connecting role can make objects owned by every one of ``names``."""
    if missing_roles(connection, names):
        return False
    return bool(
        fetch_value(
            connection,
            "SELECT coalesce(bool_and(pg_has_role(r, 'USAGE')), true) FROM unnest(%s::name[]) r",
            [names],
        )
    )


def unvalidated_constraints(connection: Connection) -> set[str]:
    """Constraints marked NOT VALID, as "schema.table.constraint"."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s.%s', n.nspname, c.relname, k.conname)
              FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
              JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE NOT k.convalidated AND {_USER_SCHEMA}""",
    )
    return {name for (name,) in rows}


def invalid_indexes(connection: Connection) -> set[str]:
    """Indexes the server will not use, as "schema.index"."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s', n.nspname, c.relname)
              FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
              JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE NOT i.indisvalid AND {_USER_SCHEMA}""",
    )
    return {name for (name,) in rows}


def sequences_behind(connection: Connection, poll: Poll) -> set[str]:
    """Columns whose sequence has not reached their highest value: the next insert would clash."""
    rows = fetch_all(
        connection,
        f"""SELECT n.nspname, c.relname, a.attname, sn.nspname, s.relname
              FROM pg_depend d
              JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
              JOIN pg_namespace sn ON sn.oid = s.relnamespace
              JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('r', 'p')
              JOIN pg_namespace n ON n.oid = c.relnamespace
              JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
              JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
             WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
               AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
               AND {_USER_SCHEMA}""",
    )
    behind = set()
    for schema, table, column, sequence_schema, sequence in rows:
        statement = sql.SQL(
            """SELECT coalesce((SELECT max({column}) FROM {table}), 0) > CASE
                      WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}"""
        ).format(
            column=sql.Identifier(column),
            table=sql.Identifier(schema, table),
            sequence=sql.Identifier(sequence_schema, sequence),
        )
        if fetch_all_polled(connection, statement, poll)[0][0]:
            behind.add(f"{schema}.{table}.{column}")
    return behind


def applied_migrations(connection: Connection) -> list[str]:
    """Django's applied migrations as "app.name", in the order they ran; [] without the table."""
    if fetch_value(connection, "SELECT to_regclass('public.django_migrations')") is None:
        return []
    rows = fetch_all(connection, "SELECT app, name FROM public.django_migrations ORDER BY id")
    return [f"{app}.{name}" for app, name in rows]


def exclusively_locked(connection: Connection) -> list[str]:
    """Tables of this database on which somebody else holds a lock that stops even readers."""
    rows = fetch_all(
        connection,
        """SELECT DISTINCT l.relation::regclass::text FROM pg_locks l
            WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND l.pid <> pg_backend_pid() AND l.relation >= 16384 ORDER BY 1""",
    )
    return [name for (name,) in rows]
