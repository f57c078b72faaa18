"""What a database holds, taken out of it again: all of it, or one schema.

Objects that belong to an extension stay with it, and so does the schema ``public``. Functions want
a connection inside a transaction, so that nothing is gone before what takes its place is there.
"""

from __future__ import annotations

from psycopg2 import sql

from dbops.exceptions import PreflightError, PrivilegeError, StatementError
from dbops.postgres.connection import Connection, execute, fetch_all
from dbops.postgres.process import Poll

_MEMBER = """EXISTS (SELECT FROM pg_depend e
    WHERE e.classid = o.class AND e.objid = o.id AND e.deptype = 'e')"""
# Whatever lives in a schema and can be dropped by itself.
_OBJECTS = """
    SELECT 'pg_class'::regclass, oid, relnamespace FROM pg_class
     WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT relispartition AND NOT EXISTS (
           SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = pg_class.oid
              AND relkind = 'S' AND d.deptype IN ('a', 'i'))  -- goes with its column
    UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, t.oid, typnamespace FROM pg_type t
     LEFT JOIN pg_class c ON c.oid = typrelid
     WHERE typtype IN ('d', 'e', 'r', 'b') AND typelem = 0 OR c.relkind = 'c'
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace FROM pg_opfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace FROM pg_conversion
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace FROM pg_statistic_ext
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace FROM pg_ts_dict"""


def drop_contents(connection: Connection, poll: Poll) -> None:
    """Drop everything users made in the connected database.

    Raises:
        PrivilegeError: something in it belongs to a role for which the connecting one may not act.
    """
    for name, may in fetch_all(
        connection, "SELECT pubname, pg_has_role(pubowner, 'USAGE') FROM pg_publication"
    ):
        _drop(connection, "publication", sql.Identifier(name).as_string(connection), may)
    schemas = fetch_all(
        connection,
        """SELECT nspname FROM pg_namespace
            WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1""",
    )
    for (schema,) in schemas:
        gone = drop_schema(connection, schema, poll)
        if not gone and schema != "public":
            raise PreflightError(
                f"Schema {schema} cannot be emptied in place: an extension lives in it.",
                hint="Restore it with a role that may create databases, without --in-place.",
            )
    _reset_privileges(connection)
    for name, may in fetch_all(
        connection, "SELECT srvname, pg_has_role(srvowner, 'USAGE') FROM pg_foreign_server"
    ):
        _drop(connection, "server", sql.Identifier(name).as_string(connection), may)
    fetch_all(connection, "SELECT lo_unlink(oid) FROM pg_largeobject_metadata")


def _reset_privileges(connection: Connection) -> None:
    """What a new database would have: a dump holds only what differs from that."""
    rows = fetch_all(
        connection,
        """SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s %s ON %s %s',
                         pg_get_userbyid(d.defaclrole),
                         ' IN SCHEMA ' || quote_ident(n.nspname), verb, kind, whom)
             FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
             JOIN (VALUES ('r', 'TABLES'), ('S', 'SEQUENCES'), ('f', 'FUNCTIONS'), ('T', 'TYPES'),
                          ('n', 'SCHEMAS'), ('L', 'LARGE OBJECTS')) k (letter, kind)
               ON k.letter = d.defaclobjtype::text,
               LATERAL (
                  SELECT DISTINCT 'REVOKE ALL', 'FROM ' || CASE a.grantee WHEN 0 THEN 'PUBLIC'
                         ELSE quote_ident(pg_get_userbyid(a.grantee)) END
                    FROM aclexplode(d.defaclacl) a WHERE a.grantee <> d.defaclrole
                  UNION ALL SELECT 'GRANT ALL', 'TO PUBLIC'
                   WHERE d.defaclnamespace = 0 AND d.defaclobjtype IN ('f', 'T')) g (verb, whom)""",
    )
    rows += fetch_all(
        connection,
        """SELECT DISTINCT format('REVOKE ALL ON SCHEMA public FROM %s',
                  CASE a.grantee WHEN 0 THEN 'PUBLIC'
                       ELSE quote_ident(pg_get_userbyid(a.grantee)) END)
             FROM pg_namespace n, aclexplode(n.nspacl) a
            WHERE n.nspname = 'public' AND a.grantee <> n.nspowner
              AND pg_has_role(n.nspowner, 'USAGE')
           UNION ALL SELECT 'GRANT USAGE ON SCHEMA public TO PUBLIC' FROM pg_namespace
            WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')""",
    )
    for (statement,) in sorted(rows, reverse=True):  # what is revoked first
        execute(connection, statement)


def drop_schema(connection: Connection, schema: str, poll: Poll) -> bool:
    """Drop what is in a schema, and the schema itself unless it is ``public`` or an extension
    lives in it; True where it is gone. Raises PrivilegeError."""
    members = 0
    rows = fetch_all(
        connection,
        f"""SELECT replace(i.type, ' object', ''), i.identity, {_MEMBER}
              FROM ({_OBJECTS}) o (class, id, ns) JOIN pg_namespace n ON n.oid = o.ns,
                   pg_identify_object(o.class, o.id, 0) i
             WHERE n.nspname = %s""",
        [schema],
    )
    for kind, identity, member in rows:
        poll()
        members += member
        if not member:
            _drop(connection, kind, identity, True)
    if schema == "public" or members:
        return False
    _drop(connection, "schema", sql.Identifier(schema).as_string(connection), True)
    return True


def _drop(connection: Connection, kind: str, identity: str, may: bool) -> None:
    try:
        if not may:
            raise StatementError(f"must be owner of {kind} {identity}")
        if kind == "aggregate":  # of everything: the server's own name for it is not its grammar
            identity = identity.removesuffix("()") + "(*)" if identity.endswith("()") else identity
        # The identity is the server's own, quoted; what a cascade took along is not there any more.
        execute(connection, f"DROP {kind} IF EXISTS {identity} CASCADE")
    except StatementError as error:
        hints = {
            "lock timeout": "Let the sessions that use it end, then run it again.",
            "shared memory": "One transaction drops everything: raise the server's "
            "max_locks_per_transaction, or restore with a role that may create databases.",
        }
        owned = "Let their owner do it, or a role that was granted the owner's."
        hint = next((it for sign, it in hints.items() if sign in str(error)), owned)
        kind_of = PrivilegeError if hint == owned else StatementError
        raise kind_of(f"The old contents cannot be dropped: {error}.", hint=hint) from error


def identities(connection: Connection, *, without_schema: str) -> set[str]:
    """Every relation, column, function, constraint, trigger, policy, rule and default outside one
    schema, as "kind identity": what is gone after a drop was taken along by its cascade."""
    rows = fetch_all(
        connection,
        """SELECT i.type || ' ' || i.identity FROM (
               SELECT 'pg_class'::regclass, oid, 0, relnamespace FROM pg_class
               UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum::int, c.relnamespace
                   FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
                  WHERE attnum > 0 AND NOT attisdropped
               UNION ALL SELECT 'pg_proc'::regclass, oid, 0, pronamespace FROM pg_proc
               UNION ALL SELECT 'pg_constraint'::regclass, oid, 0, connamespace FROM pg_constraint
               UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 0, c.relnamespace
                   FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal
               UNION ALL SELECT 'pg_policy'::regclass, p.oid, 0, c.relnamespace
                   FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
               UNION ALL SELECT 'pg_rewrite'::regclass, r.oid, 0, c.relnamespace
                   FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class
               UNION ALL SELECT 'pg_attrdef'::regclass, d.oid, 0, c.relnamespace
                   FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid
               UNION ALL SELECT 'pg_type'::regclass, oid, 0, typnamespace FROM pg_type
               UNION ALL SELECT 'pg_operator'::regclass, oid, 0, oprnamespace FROM pg_operator
               UNION ALL SELECT 'pg_opclass'::regclass, oid, 0, opcnamespace FROM pg_opclass
               UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, 0, stxnamespace
                   FROM pg_statistic_ext
               UNION ALL SELECT 'pg_ts_config'::regclass, oid, 0, cfgnamespace FROM pg_ts_config
               -- What no dump of a schema holds, wherever it belongs.
               UNION ALL SELECT 'pg_cast'::regclass, oid, 0, 0 FROM pg_cast
               UNION ALL SELECT 'pg_event_trigger'::regclass, oid, 0, 0 FROM pg_event_trigger
               UNION ALL SELECT 'pg_publication_rel'::regclass, oid, 0, 0 FROM pg_publication_rel
            ) o (class, id, sub, ns) LEFT JOIN pg_namespace n ON n.oid = o.ns,
              pg_identify_object(o.class, o.id, o.sub) i
            WHERE n.oid IS NULL
               OR n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', %s)""",
        [without_schema],
    )
    return {identity for (identity,) in rows}
