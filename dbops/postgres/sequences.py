"""Sequences: where they stand, and putting them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql

from dbops.postgres.catalog import NOT_OF_EXTENSION, USER_SCHEMA, batched, numbered_columns
from dbops.postgres.connection import Connection, fetch_all, fetch_all_polled
from dbops.postgres.process import Poll


def sequence_values(connection: Connection) -> dict[str, int | None]:
    """The last value of each sequence, None where it was never used: {"schema.sequence": value}."""
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s', n.nspname, c.relname), s.last_value
              FROM pg_sequences s JOIN pg_namespace n ON n.nspname = s.schemaname
              JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename
             WHERE {USER_SCHEMA} ORDER BY 1""",
    )
    return dict(rows)


@dataclass(frozen=True)
class SequencePosition:
    """Where a sequence stands."""

    name: str
    """"schema.sequence"."""
    last_value: int
    is_called: bool
    table: str | None
    """The table whose column it belongs to."""


def sequence_positions(connection: Connection) -> list[SequencePosition]:
    """Where each sequence stands, exactly; sequences know no snapshot."""
    rows = fetch_all(
        connection,
        f"""SELECT n.nspname, c.relname, (
                  SELECT format('%s.%s', m.nspname, t.relname) FROM pg_depend d
                    JOIN pg_class t ON t.oid = d.refobjid
                    JOIN pg_namespace m ON m.oid = t.relnamespace
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                     AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0)
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {USER_SCHEMA}
               AND {NOT_OF_EXTENSION} ORDER BY 1, 2""",
    )
    found: list[SequencePosition] = []
    for part in batched(rows):
        values = fetch_all(
            connection,
            sql.SQL(" UNION ALL ").join(
                sql.SQL("SELECT {}, last_value, is_called FROM {}").format(
                    sql.Literal(number), sql.Identifier(schema, name)
                )
                for number, (schema, name, _) in enumerate(part)
            ),
        )
        found += [
            SequencePosition(f"{part[number][0]}.{part[number][1]}", value, called, part[number][2])
            for number, value, called in values
        ]
    return found


def set_sequences(connection: Connection, positions: Sequence[SequencePosition]) -> None:
    """Put sequences where others stand. Raises StatementError."""
    for part in batched(positions):
        names = [sql.Identifier(*it.name.split(".", 1)).as_string(connection) for it in part]
        fetch_all(
            connection,
            """SELECT setval(s.name::regclass, s.value, s.called)
                 FROM unnest(%s::text[], %s::bigint[], %s::boolean[]) s (name, value, called)""",
            [names, [it.last_value for it in part], [it.is_called for it in part]],
        )


def catch_up(connection: Connection, poll: Poll) -> None:
    """Let every sequence go on behind the highest value of its column, where rows came from a
    schema that numbered them otherwise. Raises StatementError: it cannot count that far."""
    for (schema, table, column), sequence in numbered_columns(connection):
        statement = sql.SQL(
            """SELECT setval({name}, m.top) FROM {sequence} s,
                      (SELECT max({column}) AS top FROM {table}) m
                WHERE m.top > CASE WHEN s.is_called THEN s.last_value ELSE s.last_value - 1 END"""
        ).format(
            name=sql.Literal(sql.Identifier(*sequence).as_string(connection)),
            sequence=sql.Identifier(*sequence),
            column=sql.Identifier(column),
            table=sql.Identifier(schema, table),
        )
        fetch_all_polled(connection, statement, poll)
