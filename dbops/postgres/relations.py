"""Single tables: their columns, what points at them, their triggers and sequences."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2 import sql

from dbops.postgres.connection import Connection, fetch_all, fetch_value


def table_kind(connection: Connection, table: str) -> str | None:
    """``r`` for a table, ``p`` for a partitioned one, None where there is none of that name."""
    schema, name = table.split(".", 1)
    found = fetch_value(
        connection,
        """SELECT c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')""",
        [schema, name],
    )
    return str(found) if found else None


def columns(connection: Connection, table: str) -> list[tuple[str, str]]:
    """(name, type) of each column; the type of a generated one ends in "generated"."""
    rows = fetch_all(
        connection,
        """SELECT a.attname, format_type(a.atttypid, a.atttypmod)
                  || CASE WHEN a.attgenerated <> '' THEN ' generated' ELSE '' END
             FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0
              AND NOT a.attisdropped ORDER BY a.attnum""",
        [_quoted(connection, table)],
    )
    return [(name, kind) for name, kind in rows]


def foreign_keys_to(
    connection: Connection, names: Sequence[str]
) -> list[tuple[str, str, str, str | None]]:
    """(table, name, definition, comment) of each foreign key that points at one of the tables,
    those that a partition inherits left out."""
    rows = fetch_all(
        connection,
        """SELECT format('%%s.%%s', n.nspname, c.relname), k.conname, pg_get_constraintdef(k.oid),
                  obj_description(k.oid, 'pg_constraint')
             FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = ANY (
                  SELECT relid FROM unnest(%s::text[]) t (name),
                         pg_partition_tree(t.name::regclass) UNION
                  SELECT unnest(%s::text[])::regclass) ORDER BY 1, 2""",
        [[_quoted(connection, name) for name in names]] * 2,
    )
    return [(table, name, definition, comment) for table, name, definition, comment in rows]


def trigger_states(connection: Connection, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(table, trigger, how to switch it on again) of the tables and their partitions; "" for one
    that is off."""
    rows = fetch_all(
        connection,
        """SELECT format('%%s.%%s', n.nspname, c.relname), t.tgname,
                  CASE t.tgenabled WHEN 'O' THEN 'ENABLE' WHEN 'A' THEN 'ENABLE ALWAYS'
                       WHEN 'R' THEN 'ENABLE REPLICA' ELSE '' END
             FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE NOT t.tgisinternal AND t.tgrelid = ANY (
                  SELECT relid FROM unnest(%s::text[]) t (name),
                         pg_partition_tree(t.name::regclass) UNION
                  SELECT unnest(%s::text[])::regclass) ORDER BY 1, 2""",
        [[_quoted(connection, name) for name in names]] * 2,
    )
    return [(table, name, how) for table, name, how in rows]


def partition_parent(connection: Connection, table: str) -> str | None:
    """The partitioned table a partition belongs to, as "schema.table"; None for all others."""
    found = fetch_value(
        connection,
        """SELECT format('%%s.%%s', n.nspname, p.relname)
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid AND c.relispartition
             JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace
            WHERE i.inhrelid = %s::regclass""",
        [_quoted(connection, table)],
    )
    return str(found) if found else None


def sequences_of(connection: Connection, names: Sequence[str]) -> list[tuple[str, bool]]:
    """("schema.sequence", whether it ascends) of those that belong to columns of the tables."""
    rows = fetch_all(
        connection,
        """SELECT format('%%s.%%s', n.nspname, s.relname), q.seqincrement > 0
             FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
             JOIN pg_sequence q ON q.seqrelid = s.oid
             JOIN pg_namespace n ON n.oid = s.relnamespace
            WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
              AND d.refobjid = ANY (SELECT unnest(%s::text[])::regclass) ORDER BY 1""",
        [[_quoted(connection, name) for name in names]],
    )
    return [(name, ascends) for name, ascends in rows]


def _quoted(connection: Connection, table: str) -> str:
    return str(sql.Identifier(*table.split(".", 1)).as_string(connection))
