"""Who owns what, who was granted what, and for whom the connecting role may act."""

from __future__ import annotations

from dbops.postgres.catalog import NOT_OF_EXTENSION, USER_SCHEMA
from dbops.postgres.connection import Connection, fetch_all, fetch_value


def owners(connection: Connection) -> list[str]:
    """Roles that own something a dump of this database would name."""
    rows = fetch_all(
        connection,
        f"""SELECT pg_get_userbyid(o.owner) FROM (
                SELECT relowner, relnamespace, 'pg_class'::regclass, oid FROM pg_class
                UNION SELECT proowner, pronamespace, 'pg_proc'::regclass, oid FROM pg_proc
                UNION SELECT typowner, typnamespace, 'pg_type'::regclass, oid FROM pg_type
                UNION SELECT nspowner, oid, 'pg_namespace'::regclass, oid FROM pg_namespace
                 WHERE nspname <> 'public'
            ) o (owner, ns, class, id) JOIN pg_namespace n ON n.oid = o.ns
            WHERE {USER_SCHEMA} AND NOT EXISTS (
                  SELECT FROM pg_depend e
                   WHERE e.classid = o.class AND e.objid = o.id AND e.deptype = 'e')
            GROUP BY 1 ORDER BY 1""",
    )
    return [name for (name,) in rows]


def grantees(connection: Connection) -> list[str]:
    """Roles to which something in this database is granted, PUBLIC and owners left out."""
    rows = fetch_all(
        connection,
        """SELECT DISTINCT pg_get_userbyid(a.grantee) FROM (
               SELECT relacl AS acl, relowner AS owner FROM pg_class
               UNION ALL SELECT proacl, proowner FROM pg_proc
               UNION ALL SELECT typacl, typowner FROM pg_type
               UNION ALL SELECT nspacl, nspowner FROM pg_namespace
               UNION ALL SELECT defaclacl, defaclrole FROM pg_default_acl
           ) o, aclexplode(o.acl) a
           WHERE a.grantee <> 0 AND a.grantee <> o.owner
             AND pg_get_userbyid(a.grantee) !~ '^pg_' ORDER BY 1""",
    )
    return [name for (name,) in rows]


def missing_roles(connection: Connection, names: list[str]) -> list[str]:
    """Those of ``names`` the server does not know."""
    rows = fetch_all(
        connection,
        "SELECT r FROM unnest(%s::text[]) r WHERE r NOT IN (SELECT rolname FROM pg_roles)",
        [names],
    )
    return [name for (name,) in rows]


def may_act_as(connection: Connection, names: list[str]) -> bool:
    """True where the connecting role can make objects owned by every one of ``names``."""
    if missing_roles(connection, names):
        return False
    return bool(
        fetch_value(
            connection,
            "SELECT coalesce(bool_and(pg_has_role(r, 'USAGE')), true) FROM unnest(%s::name[]) r",
            [names],
        )
    )


def grants_digest(connection: Connection) -> str:
    """A digest over who was granted what on which object, what owners have by themselves left
    out."""
    return str(
        fetch_value(
            connection,
            f"""SELECT md5(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), '')) FROM (
                   SELECT concat_ws('|', o.kind, n.nspname, o.name,
                            CASE a.grantee WHEN 0 THEN 'PUBLIC'
                                           ELSE pg_get_userbyid(a.grantee) END,
                            a.privilege_type, a.is_grantable)
                     FROM (SELECT 'class', relnamespace, relname::text, relacl, relowner
                             FROM pg_class c WHERE {NOT_OF_EXTENSION}
                           UNION ALL
                           SELECT 'column', c.relnamespace, c.relname || '.' || attname, attacl,
                                  c.relowner
                             FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
                            WHERE NOT attisdropped AND {NOT_OF_EXTENSION}
                           UNION ALL
                           SELECT 'function', pronamespace, proname || '(' ||
                                  pg_get_function_identity_arguments(oid) || ')', proacl, proowner
                             FROM pg_proc
                           UNION ALL
                           SELECT 'type', typnamespace, typname::text, typacl, typowner FROM pg_type
                           UNION ALL
                           SELECT 'schema', oid, '', nspacl, nspowner FROM pg_namespace
                          ) o (kind, ns, name, acl, owner)
                     JOIN pg_namespace n ON n.oid = o.ns, aclexplode(o.acl) a
                    WHERE a.grantee <> o.owner AND {USER_SCHEMA}
               ) l (line)""",
        )
    )


def privileged_objects(connection: Connection) -> list[str]:
    """What a dump holds that only a superuser can make again, as an archive lists it:
    "EVENT TRIGGER - x" and the like."""
    whole_schemas = (
        " OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)"
        if connection.server_version >= 150000
        else ""
    )
    rows = fetch_all(
        connection,
        f"""SELECT 'EVENT TRIGGER - ' || evtname FROM pg_event_trigger e WHERE NOT EXISTS (
                  SELECT FROM pg_depend d WHERE d.objid = e.oid AND d.deptype = 'e')
           UNION ALL SELECT 'PUBLICATION - ' || pubname FROM pg_publication p
            WHERE puballtables{whole_schemas}
           UNION ALL SELECT 'FOREIGN DATA WRAPPER - ' || fdwname FROM pg_foreign_data_wrapper w
            WHERE NOT EXISTS (
                  SELECT FROM pg_depend d WHERE d.objid = w.oid AND d.deptype = 'e')
           ORDER BY 1""",
    )
    return [name for (name,) in rows]
