"""The stamp: one row in which a database says to which environment it belongs."""

from __future__ import annotations

from contextlib import nullcontext

from dbops.postgres.connection import Connection, execute, fetch_value, transaction

SCHEMA = "skinspire"
# Made anew each time: a dump made elsewhere may bring such a table with triggers of its own.
_CREATE = """
CREATE SCHEMA IF NOT EXISTS skinspire;
DROP TABLE IF EXISTS skinspire.stamp CASCADE;
CREATE TABLE skinspire.stamp (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    environment text NOT NULL,
    unmasked    text NOT NULL DEFAULT '',
    stamped_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
"""


def read_stamp(connection: Connection) -> str | None:
    """The environment the database says it belongs to, or None where it is not stamped."""
    if fetch_value(connection, "SELECT to_regclass('skinspire.stamp')") is None:
        return None
    environment = fetch_value(connection, "SELECT environment FROM skinspire.stamp")
    return str(environment) if environment is not None else None


def read_unmasked(connection: Connection) -> str:
    """The protected environment whose rows the database holds as they are; "" for none."""
    known = fetch_value(
        connection,
        """SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                           WHERE c.oid = to_regclass('skinspire.stamp') AND c.relkind = 'r'
                             AND a.attname = 'unmasked' AND NOT a.attisdropped)""",
    )
    return (
        str(fetch_value(connection, "SELECT unmasked FROM skinspire.stamp") or "") if known else ""
    )


def write_stamp(connection: Connection, environment: str, unmasked: str | None = None) -> None:
    """Stamp the database, replacing what a copy or a restore brought along.

    Args:
        unmasked: the protected environment whose rows came as they are; None leaves what it said.

    In a transaction of its own, or in the caller's where the connection is not in autocommit.
    """
    holds = read_unmasked(connection) if unmasked is None else unmasked
    with transaction(connection) if connection.autocommit else nullcontext():
        execute(connection, _CREATE)
        execute(
            connection,
            "INSERT INTO skinspire.stamp (environment, unmasked) VALUES (%s, %s)",
            [environment, holds if holds != environment else ""],
        )
