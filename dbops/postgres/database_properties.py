"""What belongs to a database itself and no dump of it holds: encoding, locale, owner, grants,
settings, comment, connection limit. Giving them to a new one, at its making and before its swap.

Functions want a connection to the server's maintenance database (``postgres``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from psycopg2 import sql

from dbops.exceptions import PreflightError, StatementError
from dbops.postgres.connection import Connection, execute
from dbops.postgres.databases import DatabaseFacts

# Settings whose value is a list of quoted names: repeated as they are, not as one quoted string
# (the same list pg_dump keeps).
_LIST_SETTINGS = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
}


def portable(facts: DatabaseFacts, role: str) -> DatabaseFacts:
    """What of a database's properties another server can give: what hangs on roles stays behind,
    and the database belongs to ``role``. That everybody may not connect is no matter of roles."""
    settings = tuple(it for it in facts.settings if not it[0])
    grants = None if facts.grants is None else tuple(it for it in facts.grants if not it[0])
    return replace(facts, owner=role, grants=grants, settings=settings)


def create_database(connection: Connection, name: str, like: DatabaseFacts | None) -> None:
    """An empty database with the encoding, collation and owner of ``like`` (else the server's own
    and the connecting role: an owner may make objects in ``public``, others may not)."""
    clauses: list[sql.Composable] = [sql.SQL("TEMPLATE template0")]
    if like is not None:
        clauses.append(sql.SQL("ENCODING {}").format(sql.Literal(like.encoding)))
        clauses += _locale_clauses(like.row)
        clauses.append(sql.SQL("OWNER {}").format(sql.Identifier(like.owner)))
    else:
        clauses.append(sql.SQL("ENCODING 'UTF8'"))
    execute(
        connection,
        sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(clauses)),
    )


def _locale_clauses(row: Mapping[str, Any]) -> list[sql.Composable]:
    provider = {"i": "icu", "b": "builtin"}.get(row.get("datlocprovider", "c"), "libc")
    clauses: list[sql.Composable] = [
        sql.SQL("LC_COLLATE {}").format(sql.Literal(row["datcollate"])),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(row["datctype"])),
    ]
    locale = row.get("datlocale") or row.get("daticulocale")
    if "datlocprovider" in row:
        clauses.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.SQL(provider)))
    if locale and provider != "libc":
        clauses.append(
            sql.SQL("{}_LOCALE {}").format(sql.SQL(provider.upper()), sql.Literal(locale))
        )
    return clauses


def carry_over(connection: Connection, origin: DatabaseFacts, name: str) -> None:
    """Give database ``name`` the owner, grants, settings, comment and limit of ``origin``.

    Raises:
        PreflightError: the connecting role may not give one of them; it is named.
    """
    identifier = sql.Identifier(name)
    for statement in (
        *_grant_statements(identifier, origin),
        *(_setting_statement(identifier, *setting) for setting in origin.settings),
        sql.SQL("COMMENT ON DATABASE {} IS {}").format(identifier, sql.Literal(origin.comment)),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            identifier, sql.Literal(origin.connection_limit)
        ),
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(identifier, sql.Identifier(origin.owner)),
    ):
        try:
            execute(connection, statement)
        except StatementError as error:
            raise PreflightError(
                f"The new database cannot be given what {origin.name} has "
                f"({statement.as_string(connection)}): {error}"
            ) from error


def _grant_statements(name: sql.Identifier, origin: DatabaseFacts) -> list[sql.Composable]:
    if origin.grants is None:
        return []
    statements: list[sql.Composable] = [
        sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name)
    ]
    for grantee, privilege, grantable in origin.grants:
        statements.append(
            sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                sql.SQL(privilege),
                name,
                sql.Identifier(grantee) if grantee else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION" if grantable and grantee != origin.owner else ""),
            )
        )
    return statements


def _setting_statement(name: sql.Identifier, role: str, key: str, value: str) -> sql.Composable:
    # A custom setting's name may hold a dot ("skinspire.actor") and is written part by part.
    setting = sql.Identifier(*key.split("."))
    shown = sql.SQL(value) if key in _LIST_SETTINGS and value else sql.Literal(value)
    if role:
        return sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} TO {}").format(
            sql.Identifier(role), name, setting, shown
        )
    return sql.SQL("ALTER DATABASE {} SET {} TO {}").format(name, setting, shown)
