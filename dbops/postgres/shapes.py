"""How tables are built, as far as their rows must fit, and how their rows can travel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dbops.postgres.catalog import NOT_OF_EXTENSION, USER_SCHEMA, matches
from dbops.postgres.connection import Connection, fetch_all


@dataclass(frozen=True)
class Column:
    """One column."""

    name: str
    type: str
    """As the server writes it, with its length."""
    nullable: bool
    filled: bool
    """Where no value is given, a default or an identity gives one."""
    generated: bool
    own_type: bool
    """Its type, or what that is made of, is none of PostgreSQL's own: an enum of the same name may
    know other labels."""
    binary: bool
    """Its values may travel in binary form: they hold no numbers of objects of this database."""


@dataclass(frozen=True)
class Shape:
    """What rows must fit that are loaded into a table."""

    columns: tuple[Column, ...]
    checks: tuple[str, ...]
    """Definitions of its check constraints, and the bounds of a partition."""


@dataclass(frozen=True)
class TableFacts:
    """A table that rows can be read from and loaded into."""

    table: str
    """"schema.table"."""
    shape: Shape
    blocks: int
    """Of the table itself; of a partitioned one, 0."""
    bytes: int
    """Of its rows, those out of line included; of a partitioned table, 0."""
    root: str
    """The partitioned table it is a part of, at the top; of others, itself."""
    partitioned: bool
    estimated_rows: int


# An array or range is what its elements are; a domain is sent as what it is based on.
_COLUMNS = f"""
SELECT n.nspname || '.' || c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
       NOT (a.attnotnull OR coalesce(b.typnotnull, false)),
       a.atthasdef OR a.attidentity <> '' OR b.typdefault IS NOT NULL, a.attgenerated <> '',
       b.oid >= 16384 OR e.oid >= 16384,
       b.typsend <> 0 AND b.typreceive <> 0 AND v.typname !~ '^_?reg' AND v.typname <> 'xml'
       AND (b.typtype = 'e' OR v.oid < 16384) AND coalesce(e.oid < 16384, true)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type b ON b.oid = a.atttypid
  JOIN pg_type v ON v.oid = CASE b.typtype WHEN 'd' THEN b.typbasetype ELSE b.oid END
  LEFT JOIN pg_type e ON e.oid = v.typelem AND v.typelem <> 0
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {USER_SCHEMA} AND {NOT_OF_EXTENSION}
 ORDER BY c.oid, a.attnum
"""
_CHECKS = f"""
SELECT n.nspname || '.' || c.relname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.contype = 'c' AND {USER_SCHEMA}
UNION ALL SELECT n.nspname || '.' || c.relname, pg_get_expr(c.relpartbound, c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relispartition AND {USER_SCHEMA} ORDER BY 1, 2
"""
_TABLES = f"""
SELECT n.nspname || '.' || c.relname,
       CASE c.relkind WHEN 'r' THEN
            pg_relation_size(c.oid) / current_setting('block_size')::int ELSE 0 END,
       CASE c.relkind WHEN 'r' THEN pg_relation_size(c.oid)
            + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0) ELSE 0 END,
       coalesce((SELECT format('%s.%s', m.nspname, p.relname)
                   FROM pg_class p JOIN pg_namespace m ON m.oid = p.relnamespace
                  WHERE c.relispartition AND p.oid = pg_partition_root(c.oid)),
                format('%s.%s', n.nspname, c.relname)),
       c.relkind = 'p', greatest(c.reltuples, 0)::bigint
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {USER_SCHEMA} AND {NOT_OF_EXTENSION}
 ORDER BY 1
"""


def table_facts(connection: Connection, *, shapes: bool = True) -> dict[str, TableFacts]:
    """Every table outside the system's, extensions' and our own schema, partitioned ones included:
    {"schema.table": facts}.

    Args:
        shapes: False where names and sizes are enough: every shape is empty then.
    """
    columns: dict[str, list[Column]] = {}
    for table, *facts in fetch_all(connection, _COLUMNS) if shapes else ():
        columns.setdefault(table, []).append(Column(*facts))
    checks: dict[str, list[str]] = {}
    for table, definition in fetch_all(connection, _CHECKS) if shapes else ():
        checks.setdefault(table, []).append(definition)
    return {
        table: TableFacts(
            table,
            Shape(tuple(columns.get(table, ())), tuple(checks.get(table, ()))),
            blocks, size, root, partitioned, rows,
        )
        for table, blocks, size, root, partitioned, rows in fetch_all(connection, _TABLES)
    }  # fmt: skip


def named(tables: Iterable[TableFacts], patterns: Sequence[str]) -> list[TableFacts]:
    """Those that are meant, by their own name or as parts of what is meant."""
    return [it for it in tables if matches(it.table, patterns) or matches(it.root, patterns)]
