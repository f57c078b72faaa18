"""Materialised views: what is filled, and filling it."""

from __future__ import annotations

from collections.abc import Collection

from psycopg2 import sql

from dbops.postgres.catalog import USER_SCHEMA
from dbops.postgres.connection import Connection, fetch_all, fetch_all_polled
from dbops.postgres.process import Poll


def unpopulated_views(connection: Connection) -> list[str]:
    """Materialised views that hold nothing because they were never refreshed."""
    return _materialised_views(connection, "NOT c.relispopulated")


def _materialised_views(connection: Connection, condition: str) -> list[str]:
    rows = fetch_all(
        connection,
        f"""SELECT format('%s.%s', n.nspname, c.relname)
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind = 'm' AND {condition} AND {USER_SCHEMA}""",
    )
    return [name for (name,) in rows]


def refresh_views(connection: Connection, names: Collection[str], poll: Poll) -> None:
    """Fill materialised views, each after those it reads. Raises StatementError."""
    rows = fetch_all(
        connection,
        """WITH RECURSIVE reads (view, on_what) AS (
               SELECT DISTINCT r.ev_class, d.refobjid FROM pg_rewrite r
                 JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class),
           depth (view, steps) AS (
               SELECT oid, 0 FROM pg_class WHERE relkind IN ('v', 'm')
               UNION SELECT reads.view, depth.steps + 1 FROM depth
                       JOIN reads ON reads.on_what = depth.view)
           SELECT format('%s.%s', n.nspname, c.relname)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             JOIN depth ON depth.view = c.oid WHERE c.relkind = 'm'
            GROUP BY 1 ORDER BY max(depth.steps), 1""",
    )
    for (name,) in rows:
        if name in names:
            statement = sql.SQL("REFRESH MATERIALIZED VIEW {}")
            view = sql.Identifier(*name.split(".", 1))
            fetch_all_polled(connection, statement.format(view), poll)


def populated_views(connection: Connection) -> list[str]:
    """Materialised views that hold what they were refreshed with."""
    return _materialised_views(connection, "c.relispopulated")
