"""What the catalogue says about tables, as far as masking must know it. Reads no rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from psycopg2.extensions import encodings

from dbops.postgres.catalog import NOT_OF_EXTENSION, USER_SCHEMA
from dbops.postgres.connection import Connection, fetch_all, fetch_value

_TABLES = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind, (
         SELECT format('%s.%s', rn.nspname, r.relname)
           FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
          WHERE r.oid = pg_partition_root(c.oid))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {USER_SCHEMA} AND {NOT_OF_EXTENSION}
 ORDER BY 2, 3"""
# A domain is looked through to the type it stands on; an array to its elements.
_COLUMNS = f"""
WITH RECURSIVE domain (oid, base, typmod, not_null) AS (
    SELECT oid, typbasetype, typtypmod, typnotnull FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT d.oid, t.typbasetype, CASE WHEN d.typmod = -1 THEN t.typtypmod ELSE d.typmod END,
           d.not_null OR t.typnotnull
      FROM domain d JOIN pg_type t ON t.oid = d.base AND t.typtype = 'd'),
based (oid, base, typmod, not_null) AS (
    SELECT d.* FROM domain d JOIN pg_type t ON t.oid = d.base AND t.typtype <> 'd'
    UNION ALL
    SELECT oid, oid, -1, false FROM pg_type WHERE typtype <> 'd')
SELECT a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
       CASE WHEN e.typnamespace = 'pg_catalog'::regnamespace OR e.typname = 'citext'
            THEN e.typname::text ELSE format_type(e.oid, NULL) END,
       e.typtype, b.typcategory = 'A' AND b.typelem <> 0,
       CASE WHEN t.base <> a.atttypid THEN t.typmod ELSE a.atttypmod END,
       a.attnotnull OR t.not_null, a.attgenerated <> '',
       a.attidentity <> '' OR coalesce(pg_get_expr(f.adbin, f.adrelid) LIKE 'nextval(%', false)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN based t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = t.base
  LEFT JOIN based et ON b.typcategory = 'A' AND et.oid = b.typelem
  JOIN pg_type e ON e.oid = coalesce(et.base, b.oid)
  LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
 WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p')
   AND c.relpersistence <> 't' AND {USER_SCHEMA}
 ORDER BY a.attrelid, a.attnum"""
# What a partition has from its parent is looked at there. Columns inside the expressions of an
# index are known by its dependencies.
_INDEXES = f"""
SELECT i.indrelid, x.relname, i.indisprimary, i.indisexclusion,
       i.indexprs IS NOT NULL OR i.indpred IS NOT NULL,
       ARRAY(SELECT k FROM unnest(i.indkey::int2[]) WITH ORDINALITY u (k, o)
              WHERE o <= i.indnkeyatts AND k > 0),
       CASE WHEN i.indexprs IS NULL THEN '{{}}' ELSE ARRAY(
            SELECT d.refobjsubid::int2 FROM pg_depend d
             WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
               AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
               AND d.refobjsubid > 0) END
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE (i.indisunique OR i.indisexclusion) AND NOT x.relispartition AND {USER_SCHEMA}
 ORDER BY 1, 2"""
_CONSTRAINTS = f"""
SELECT k.conrelid, k.conname, k.contype, k.conkey, k.confrelid, k.confkey,
       pg_get_expr(k.conbin, k.conrelid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype IN ('c', 'f') AND k.conparentid = 0
   AND (k.convalidated OR k.contype = 'f')
   AND (k.conislocal OR NOT c.relispartition)
   AND {USER_SCHEMA} ORDER BY 1, 2"""
_PARTITION_KEYS = """
SELECT p.partrelid, d.objsubid::int2
  FROM pg_partitioned_table p JOIN pg_depend d ON d.objid = p.partrelid
   AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
   AND d.refobjid = p.partrelid AND d.refobjsubid = 0 AND d.objsubid > 0"""
_SEARCH_TRIGGERS = """
SELECT t.tgrelid, p.proname = 'tsvector_update_trigger_column', t.tgargs
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
   AND p.pronamespace = 'pg_catalog'::regnamespace
   AND p.proname IN ('tsvector_update_trigger', 'tsvector_update_trigger_column')
 WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled <> 'D' ORDER BY t.tgname"""
_SIZED = {"varchar", "bpchar"}
# A length is stored with that of a header, a numeric's scale in the low bits.
_HEADER = 4
_SCALE = 0x7FF


@dataclass(frozen=True)
class Column:
    """One column; of an array ``base`` and ``enum`` tell about its elements."""

    number: int
    name: str
    type: str
    """As SQL writes it, schema and length included."""
    base: str
    """PostgreSQL's own name of the type below domains and arrays, such as ``int4``."""
    enum: bool
    array: bool
    length: int | None
    """Most characters of a varchar or char; None where there is no limit."""
    fraction: bool
    """A numeric with digits after the point."""
    not_null: bool
    generated: bool
    counted: bool
    """A sequence fills it."""


@dataclass(frozen=True)
class Unique:
    """A primary key, a unique index or an exclusion constraint."""

    name: str
    columns: tuple[str, ...]
    primary: bool = False
    exclusion: bool = False
    whole: bool = True
    """False where it covers only some rows, or expressions instead of plain columns."""


@dataclass(frozen=True)
class ForeignKey:
    """Columns that refer to those of another table, in the same order."""

    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """A CHECK constraint."""

    name: str
    columns: tuple[str, ...]
    expression: str


@dataclass(frozen=True)
class SearchVector:
    """What PostgreSQL's own trigger fills a tsvector column from."""

    configuration: str
    """The name of a text search configuration, or of the column that holds one."""
    by_column: bool
    columns: tuple[str, ...]


@dataclass
class Table:
    """A table, partitioned table or partition."""

    schema: str
    name: str
    root: str
    """The label of the topmost partitioned table; of all others, their own."""
    holds_rows: bool
    columns: dict[str, Column] = field(default_factory=dict)
    uniques: list[Unique] = field(default_factory=list)
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    partition_key: set[str] = field(default_factory=set)
    search_vectors: dict[str, SearchVector] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def primary_key(self) -> tuple[str, ...]:
        return next((unique.columns for unique in self.uniques if unique.primary), ())

    def named(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """Names of the columns of those numbers."""
        by_number = {column.number: name for name, column in self.columns.items()}
        return tuple(by_number[number] for number in numbers if number in by_number)


def survey_tables(connection: Connection) -> dict[str, Table]:
    """Every table of the database outside extensions and our own schema, by its label."""
    tables = {
        oid: Table(schema, name, root or f"{schema}.{name}", kind == "r")
        for oid, schema, name, kind, root in fetch_all(connection, _TABLES)
    }
    for oid, number, name, type_name, base, kind, array, typmod, *flags in fetch_all(
        connection, _COLUMNS
    ):
        if oid in tables:
            size = typmod - _HEADER
            tables[oid].columns[name] = Column(
                number, name, type_name, base, kind == "e", array,
                length=size if base in _SIZED and size > 0 else None,
                fraction=base == "numeric" and size > 0 and bool(size & _SCALE),
                not_null=flags[0], generated=flags[1], counted=flags[2],
            )  # fmt: skip
    _add_indexes(connection, tables)
    _add_constraints(connection, tables)
    for oid, number in fetch_all(connection, _PARTITION_KEYS):
        if oid in tables:
            tables[oid].partition_key.update(tables[oid].named([number]))
    encoding = encodings[str(connection.get_parameter_status("server_encoding"))]
    for oid, by_column, arguments in fetch_all(connection, _SEARCH_TRIGGERS):
        if oid in tables:
            written = bytes(arguments).decode(encoding).split("\0")[:-1]
            target, configuration, *columns = written
            vector = SearchVector(configuration, by_column, tuple(columns))
            tables[oid].search_vectors[target] = vector
    return {table.label: table for table in tables.values()}


def _add_indexes(connection: Connection, tables: dict[int, Table]) -> None:
    for oid, name, primary, exclusion, odd, keys, inside in fetch_all(connection, _INDEXES):
        if oid in tables:
            columns = tables[oid].named(sorted({*keys, *inside}))
            tables[oid].uniques.append(Unique(name, columns, primary, exclusion, not odd))


def _add_constraints(connection: Connection, tables: dict[int, Table]) -> None:
    for oid, name, kind, keys, parent, parent_keys, expression in fetch_all(
        connection, _CONSTRAINTS
    ):
        if oid not in tables:
            continue
        columns = tables[oid].named(keys or [])
        if kind == "c":
            tables[oid].checks.append(Check(name, columns, expression))
        elif parent in tables:
            tables[oid].foreign_keys.append(
                ForeignKey(name, columns, tables[parent].label, tables[parent].named(parent_keys))
            )


def large_object_count(connection: Connection) -> int:
    """How many large objects the database holds."""
    return int(fetch_value(connection, "SELECT count(*) FROM pg_largeobject_metadata"))


def folding(connection: Connection) -> str:
    """The collation by which letters are folded, the same for every column: that of Unicode where
    the server has one of its own, else the database's."""
    known = fetch_value(
        connection,
        """SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'pg_c_utf8'
                             AND collnamespace = 'pg_catalog'::regnamespace
                             AND current_setting('server_encoding') = 'UTF8')""",
    )
    return "pg_catalog.pg_c_utf8" if known else 'pg_catalog."default"'
