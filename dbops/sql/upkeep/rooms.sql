-- What stays of a database whose objects go, as statements that make it again in an empty one: its
-- schemas with owners and grants, its extensions, its default privileges. What belongs to a role for
-- which the connecting one may not act will belong to the connecting one.
WITH room AS (
    SELECT n.oid, n.nspname, n.nspacl, n.nspowner,
           CASE WHEN pg_has_role(n.nspowner, 'USAGE') THEN n.nspowner::regrole::text
                ELSE quote_ident(current_user) END AS owner
      FROM pg_namespace n
     WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass
                          AND e.objid = n.oid AND e.deptype = 'e')
),
privilege AS (
    SELECT d.oid, format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s', d.defaclrole::regrole,
                         ' IN SCHEMA ' || quote_ident(n.nspname)) AS head,
           CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
                WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END AS what,
           d.defaclacl, d.defaclrole, d.defaclnamespace
      FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
     WHERE d.defaclobjtype IN ('r', 'S', 'f', 'T', 'n') AND pg_has_role(d.defaclrole, 'USAGE')
       AND (d.defaclnamespace = 0 OR d.defaclnamespace IN (SELECT oid FROM room))
)
SELECT statement FROM (
    SELECT 1, nspname::text, format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %s', nspname, owner)
      FROM room WHERE nspname <> 'public'
    UNION ALL
    SELECT 2, nspname, format('REVOKE ALL ON SCHEMA %I FROM PUBLIC', nspname)
      FROM room WHERE nspacl IS NOT NULL
    UNION ALL
    SELECT 3, nspname, format('GRANT %s ON SCHEMA %I TO %s%s', a.privilege_type, nspname,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
               CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
      FROM room, aclexplode(nspacl) a WHERE a.grantee <> nspowner
    UNION ALL
    SELECT 4, e.extname, format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I VERSION %L CASCADE',
               e.extname, n.nspname, e.extversion)
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname <> 'plpgsql'
    UNION ALL
    SELECT 5, oid::text, format('%s REVOKE ALL ON %s FROM PUBLIC', head, what)
      FROM privilege WHERE defaclnamespace = 0
    UNION ALL
    SELECT 6, oid::text, format('%s GRANT %s ON %s TO %s%s', head, a.privilege_type, what,
               CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
               CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
      FROM privilege, aclexplode(defaclacl) a
     WHERE NOT (a.grantee = defaclrole AND defaclnamespace = 0)
) s (step, name, statement) ORDER BY step, name, statement
