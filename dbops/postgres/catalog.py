"""What a database holds, read from pg_catalog in a few set-wise queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

from psycopg2 import sql

from dbops.exceptions import PreflightError
from dbops.postgres.connection import (
    WRITTEN,
    Connection,
    apply_settings,
    fetch_all,
    fetch_all_polled,
    fetch_value,
)
from dbops.postgres.names import quoted_name
from dbops.postgres.process import Poll

USER_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')"
NOT_OF_EXTENSION = """NOT EXISTS (SELECT 1 FROM pg_depend e
    WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"""


_BATCH = 500
"""Objects named in one statement."""
_Item = TypeVar("_Item")


def batched(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Portions for statements that name many objects."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def matches(table: str, patterns: Iterable[str]) -> bool:
    """Whether a "schema.table" is meant: a pattern without a dot means tables of any schema."""
    name = table.split(".", 1)[1]
    return any(fnmatchcase(table if "." in it else name, it) for it in patterns)


@dataclass(frozen=True)
class Table:
    """A table that holds rows of its own: partitions count, their partitioned parent does not."""

    schema: str
    name: str
    estimated_rows: int
    root: str
    """The partitioned table it is a part of, at the top; of others, itself."""

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
        f"""SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::bigint,
                  coalesce((SELECT m.nspname || '.' || p.relname FROM pg_class p
                              JOIN pg_namespace m ON m.oid = p.relnamespace
                             WHERE c.relispartition AND p.oid = pg_partition_root(c.oid)),
                           n.nspname || '.' || c.relname)
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND c.relpersistence <> 't'
               AND {USER_SCHEMA} AND {NOT_OF_EXTENSION}
             ORDER BY 1, 2""",
    )
    _require_plain(schema for schema, *_ in rows)
    return [Table(*row) for row in rows]


def table_names(connection: Connection) -> list[tuple[str, str]]:
    """("schema.table", its root) of every table and partitioned table: see :class:`Table`. Waits
    for no lock."""
    rows = fetch_all(
        connection,
        f"""SELECT n.nspname, n.nspname || '.' || c.relname,
                  coalesce((SELECT m.nspname || '.' || p.relname FROM pg_class p
                              JOIN pg_namespace m ON m.oid = p.relnamespace
                             WHERE c.relispartition AND p.oid = pg_partition_root(c.oid)),
                           n.nspname || '.' || c.relname)
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
               AND {USER_SCHEMA} AND {NOT_OF_EXTENSION} ORDER BY 2""",
    )
    _require_plain(schema for schema, *_ in rows)
    return [(table, root) for _, table, root in rows]


def _require_plain(schemas: Iterable[str]) -> None:
    """We call a table "schema.table", parted at the first dot: "a.b"."c" would be taken for
    "a"."b.c". Raises PreflightError."""
    dotted = next((schema for schema in schemas if "." in schema), None)
    if dotted is not None:
        name, plain = quoted_name(dotted), quoted_name(dotted.replace(".", "_"))
        raise PreflightError(
            f"Schema {name} has a dot in its name: its tables cannot be told from another's.",
            hint=f"Rename it: ALTER SCHEMA {name} RENAME TO {plain}",
        )


def count_rows(connection: Connection, poll: Poll) -> dict[str, int]:
    """Exact rows of each table, under the connection's own snapshot: {"schema.table": rows}."""
    counts: dict[str, int] = {}
    for table in tables(connection):
        statement = sql.SQL("SELECT count(*) FROM ONLY {}").format(table.identifier)
        counts[table.label] = int(fetch_all_polled(connection, statement, poll)[0][0])
    return counts


def checksum_rows(connection: Connection, poll: Poll) -> dict[str, str]:
    """A checksum over each table's rows, whatever their order: {"schema.table": checksum}.

    The sum of half an MD5 per row. How a value is written depends on settings, which are therefore
    set; MD5, unlike the server's own hash functions, is the same in every version.
    """
    apply_settings(connection, WRITTEN)
    sums: dict[str, str] = {}
    for table in tables(connection):
        statement = sql.SQL(
            "SELECT coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint), 0)::text"
            " FROM ONLY {} t"
        ).format(table.identifier)
        sums[table.label] = str(fetch_all_polled(connection, statement, poll)[0][0])
    return sums


def object_counts(connection: Connection) -> dict[str, int]:
    """How many objects of each kind there are, those of extensions and of our schema left out."""
    rows = fetch_all(
        connection,
        f"""SELECT kind, count(*) FROM (
               SELECT CASE c.relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned tables'
                        WHEN 'v' THEN 'views' WHEN 'm' THEN 'materialised views'
                        WHEN 'f' THEN 'foreign tables' WHEN 'S' THEN 'sequences'
                        WHEN 'i' THEN 'indexes' WHEN 'I' THEN 'indexes' END,
                      'pg_class'::regclass, c.oid, c.relnamespace
                 FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I')
                  AND c.relpersistence <> 't'
               UNION ALL SELECT 'functions', 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
               UNION ALL SELECT 'types', 'pg_type'::regclass, oid, typnamespace FROM pg_type
                          WHERE typtype IN ('d', 'e', 'r')
               UNION ALL SELECT CASE contype WHEN 'f' THEN 'foreign keys' WHEN 'c' THEN 'checks'
                          ELSE 'keys' END, 'pg_constraint'::regclass, oid, connamespace
                           FROM pg_constraint WHERE contype IN ('f', 'c', 'p', 'u', 'x')
               UNION ALL SELECT 'triggers', 'pg_class'::regclass, tgrelid, c.relnamespace
                           FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
                          WHERE NOT tgisinternal
               UNION ALL SELECT 'policies', 'pg_class'::regclass, polrelid, c.relnamespace
                           FROM pg_policy JOIN pg_class c ON c.oid = polrelid
               UNION ALL SELECT 'statistics', 'pg_statistic_ext'::regclass, oid, stxnamespace
                           FROM pg_statistic_ext
            ) o (kind, class, id, ns) JOIN pg_namespace n ON n.oid = o.ns
            WHERE {USER_SCHEMA} AND NOT EXISTS (
                  SELECT FROM pg_depend e
                   WHERE e.classid = o.class AND e.objid = o.id AND e.deptype = 'e')
            GROUP BY 1
            UNION ALL SELECT 'large objects', count(*) FROM pg_largeobject_metadata
            UNION ALL SELECT 'event triggers', count(*) FROM pg_event_trigger
            UNION ALL SELECT 'publications', count(*) FROM pg_publication
            ORDER BY 1""",
    )
    return {kind: int(count) for kind, count in rows if count}


def largest_tables(connection: Connection, limit: int = 20) -> dict[str, int]:
    """The largest tables and their bytes, indexes and TOAST included: {"schema.table": bytes}."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%%s.%%s', n.nspname, c.relname), pg_total_relation_size(c.oid) AS bytes
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'r' AND {USER_SCHEMA} ORDER BY bytes DESC, 1 LIMIT %s""",
        [limit],
    )
    return dict(rows)


def is_empty(connection: Connection) -> bool:
    """True where nobody has made a table, view, sequence, type or function yet."""
    found = fetch_value(
        connection,
        f"""SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE {USER_SCHEMA} AND {NOT_OF_EXTENSION})
                OR EXISTS (SELECT FROM pg_namespace n WHERE {USER_SCHEMA} AND nspname <> 'public')
                OR EXISTS (SELECT FROM pg_largeobject_metadata)
                OR EXISTS (
                   SELECT FROM (SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc UNION ALL
                                SELECT 'pg_type'::regclass, oid, typnamespace FROM pg_type
                                ) o (class, id, ns)
                     JOIN pg_namespace n ON n.oid = o.ns
                    WHERE {USER_SCHEMA} AND NOT EXISTS (
                          SELECT FROM pg_depend e WHERE e.classid = o.class AND e.objid = o.id
                             AND e.deptype = 'e'))""",
    )
    return not found


def extensions(connection: Connection) -> list[str]:
    """Installed extensions, by name; plpgsql, which every database has, is left out."""
    return list(extension_versions(connection))


def extension_versions(connection: Connection) -> dict[str, str]:
    """The same with their versions."""
    rows = fetch_all(
        connection,
        "SELECT extname, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1",
    )
    return dict(rows)


def extensions_with_rows(connection: Connection) -> list[str]:
    """Extensions with tables whose rows are the user's: pg_dump knows which of them."""
    rows = fetch_all(
        connection, "SELECT extname FROM pg_extension WHERE extconfig IS NOT NULL ORDER BY 1"
    )
    return [name for (name,) in rows]


def available_extensions(connection: Connection) -> dict[str, bool]:
    """Extensions the server could install: {name: True where the connecting role may}."""
    rows = fetch_all(
        connection,
        """SELECT v.name, bool_or(NOT v.superuser OR v.trusted OR r.rolsuper)
             FROM pg_available_extension_versions v, pg_roles r
            WHERE r.rolname = current_user GROUP BY 1""",
    )
    return dict(rows)


def unvalidated_constraints(connection: Connection) -> set[str]:
    """Constraints marked NOT VALID, as "schema.table.constraint"."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s.%s', n.nspname, c.relname, k.conname)
              FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
              JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE NOT k.convalidated AND {USER_SCHEMA}""",
    )
    return {name for (name,) in rows}


def invalid_indexes(connection: Connection) -> set[str]:
    """Indexes the server will not use, as "schema.index"."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s', n.nspname, c.relname)
              FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
              JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE NOT i.indisvalid AND {USER_SCHEMA}""",
    )
    return {name for (name,) in rows}


def sequences_behind(connection: Connection, poll: Poll) -> set[str]:
    """Columns whose sequence has not reached their highest value: the next insert would clash."""
    behind = set()
    for (schema, table, column), sequence in numbered_columns(connection):
        statement = sql.SQL(
            """SELECT coalesce((SELECT max({column}) FROM {table}), 0) > CASE
                      WHEN is_called THEN last_value ELSE last_value - 1 END FROM {sequence}"""
        ).format(
            column=sql.Identifier(column),
            table=sql.Identifier(schema, table),
            sequence=sql.Identifier(*sequence),
        )
        if fetch_all_polled(connection, statement, poll)[0][0]:
            behind.add(f"{schema}.{table}.{column}")
    return behind


def numbered_columns(
    connection: Connection,
) -> list[tuple[tuple[str, str, str], tuple[str, str]]]:
    """((schema, table, column), (schema, sequence)) of whole numbers that an ascending sequence of
    their own gives."""
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
               AND {USER_SCHEMA}""",
    )
    return [((schema, table, column), (where, name)) for schema, table, column, where, name in rows]


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
