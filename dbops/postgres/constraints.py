"""Unique and foreign keys, and the rows that stand in their way before they are made."""

from __future__ import annotations

from dataclasses import dataclass

from dbops.postgres.catalog import USER_SCHEMA
from dbops.postgres.connection import Connection, fetch_all, fetch_all_polled
from dbops.postgres.names import quoted
from dbops.postgres.process import Poll


@dataclass(frozen=True)
class UniqueKey:
    """A unique index, a primary key's included."""

    name: str
    table: str
    keys: tuple[str, ...]
    """Columns and expressions, as SQL."""
    types: tuple[str, ...]
    """Of the columns it looks at: the same key over other types may take others for equal."""
    partitioned: bool
    predicate: str
    """Of a partial one, as SQL; "" for all rows."""
    nulls_distinct: bool


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key that was valid."""

    name: str
    table: str
    columns: tuple[str, ...]
    """Quoted, as the others."""
    referenced: str
    referenced_columns: tuple[str, ...]
    operators: tuple[str, ...]
    """By which a referenced column equals one that refers to it."""
    partitioned: tuple[bool, bool]
    """Whether the table is, and the one it refers to."""
    full: bool
    """MATCH FULL: all columns are NULL or none is."""


def unique_keys(connection: Connection) -> list[UniqueKey]:
    """Every unique index of a user's table, those of partitions left out: their parent has it."""
    nulls = "NOT i.indnullsnotdistinct" if connection.server_version >= 150000 else "true"
    rows = fetch_all(
        connection,
        f"""SELECT x.relname, format('%s.%s', n.nspname, c.relname),
                  ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, true)
                          FROM generate_series(1, i.indnkeyatts) k ORDER BY k),
                  ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
                         WHERE a.attrelid = i.indexrelid ORDER BY a.attnum), c.relkind = 'p',
                  coalesce(pg_get_expr(i.indpred, i.indrelid), ''), {nulls}
             FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
             JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE i.indisunique AND i.indisvalid AND c.relkind IN ('r', 'p')
              AND NOT x.relispartition AND {USER_SCHEMA} ORDER BY 2, 1""",
    )
    return [
        UniqueKey(name, table, tuple(keys), tuple(types), partitioned, predicate, distinct)
        for name, table, keys, types, partitioned, predicate, distinct in rows
    ]


def foreign_keys(connection: Connection) -> list[ForeignKey]:
    """Every valid foreign key, those of partitions left out: their parent has it."""
    names = """ARRAY(SELECT quote_ident(a.attname)
                       FROM unnest({0}) WITH ORDINALITY u (number, place)
                       JOIN pg_attribute a ON a.attrelid = {1} AND a.attnum = u.number
                      ORDER BY u.place)"""
    rows = fetch_all(
        connection,
        f"""SELECT k.conname, format('%s.%s', n.nspname, c.relname),
                  {names.format("k.conkey", "k.conrelid")},
                  format('%s.%s', m.nspname, r.relname),
                  {names.format("k.confkey", "k.confrelid")},
                  ARRAY(SELECT format('OPERATOR(%I.%s)', s.nspname, o.oprname)
                          FROM unnest(k.conpfeqop) WITH ORDINALITY u (oid, place)
                          JOIN pg_operator o ON o.oid = u.oid
                          JOIN pg_namespace s ON s.oid = o.oprnamespace ORDER BY u.place),
                  c.relkind = 'p', r.relkind = 'p', k.confmatchtype = 'f'
             FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_class r ON r.oid = k.confrelid JOIN pg_namespace m ON m.oid = r.relnamespace
            WHERE k.contype = 'f' AND k.conparentid = 0 AND k.convalidated AND {USER_SCHEMA}
            ORDER BY 2, 1""",
    )
    return [
        ForeignKey(
            name,
            table,
            tuple(columns),
            referenced,
            tuple(others),
            tuple(operators),
            (parted, parent_parted),
            full,
        )
        for name, table, columns, referenced, others, operators, parted, parent_parted, full in rows
    ]


def delete_repeated(connection: Connection, key: UniqueKey, poll: Poll) -> dict[str, int]:
    """Delete all but the first of the rows that repeat a unique value; how many of each table."""
    table = _rows_of(key.table, key.partitioned)
    conditions = [f"({key.predicate})"] if key.predicate else []
    if key.nulls_distinct:
        conditions += [f"{part} IS NOT NULL" for part in key.keys]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    return _deleted(
        connection,
        f"""DELETE FROM {table} WHERE (tableoid, ctid) IN (
               SELECT t, c FROM (
                   SELECT tableoid AS t, ctid AS c,
                          row_number() OVER (PARTITION BY {", ".join(key.keys)}
                                                 ORDER BY tableoid, ctid) AS place
                     FROM {table} {where}) r WHERE place > 1)""",
        poll,
    )


def delete_unreferred(connection: Connection, key: ForeignKey, poll: Poll) -> dict[str, int]:
    """Delete the rows that refer to a row that is not there; how many of each table."""
    pairs = zip(key.columns, key.referenced_columns, key.operators, strict=True)
    same = " AND ".join(f"p.{theirs} {equals} c.{ours}" for ours, theirs, equals in pairs)
    nulls = [f"c.{column} IS NULL" for column in key.columns]
    if key.full:
        refers = f"NOT ({' AND '.join(nulls)})"
    else:
        refers = " AND ".join(f"NOT {part}" for part in nulls)
    table, referenced = (
        _rows_of(name, partitioned)
        for name, partitioned in zip((key.table, key.referenced), key.partitioned, strict=True)
    )
    return _deleted(
        connection,
        f"""DELETE FROM {table} c WHERE {refers} AND NOT EXISTS (
               SELECT FROM {referenced} p WHERE {same})""",
        poll,
    )


def _rows_of(table: str, partitioned: bool) -> str:
    """The rows a constraint of the table looks at: those of its partitions, not of tables that
    inherit from it."""
    return quoted(table) if partitioned else f"ONLY {quoted(table)}"


def _deleted(connection: Connection, delete: str, poll: Poll) -> dict[str, int]:
    rows = fetch_all_polled(
        connection,
        f"""WITH gone AS ({delete} RETURNING tableoid)
            SELECT n.nspname || '.' || c.relname, count(*) FROM gone
              JOIN pg_class c ON c.oid = gone.tableoid
              JOIN pg_namespace n ON n.oid = c.relnamespace GROUP BY 1""",
        poll,
    )
    return dict(rows)
