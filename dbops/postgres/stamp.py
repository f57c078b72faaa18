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
    stamped_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
"""


def read_stamp(connection: Connection) -> str | None:
    """The environment the database says it belongs to, or None where it is not stamped."""
    if fetch_value(connection, "SELECT to_regclass('skinspire.stamp')") is None:
        return None
    environment = fetch_value(connection, "SELECT environment FROM skinspire.stamp")
    return str(environment) if environment is not None else None


def write_stamp(connection: Connection, environment: str) -> None:
    """Stamp the database, replacing what a copy or a restore brought along.

    In a transaction of its own, or in the caller's where the connection is not in autocommit.
    """
    with transaction(connection) if connection.autocommit else nullcontext():
        execute(connection, _CREATE)
        execute(connection, "INSERT INTO skinspire.stamp (environment) VALUES (%s)", [environment])
