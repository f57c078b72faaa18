-- Functions, procedures and aggregates; those of extensions left out.
--
-- Given: a schema or NULL for those of users, and a table's number or NULL: then only the functions
-- that its triggers call, wherever they are.
SELECT n.nspname, p.proname, pg_get_function_identity_arguments(p.oid),
       pg_get_function_result(p.oid),
       CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' WHEN 'w' THEN 'window'
                      ELSE 'function' END,
       l.lanname,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END,
       p.prosecdef, pg_get_userbyid(p.proowner),
       EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                WHERE a.grantee = 0),
       array_to_string(p.proconfig, ', '), obj_description(p.oid, 'pg_proc')
  FROM (VALUES (%s::text, %s::oid)) given (schema, id),
       pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
 WHERE CASE WHEN given.id IS NOT NULL
            THEN p.oid IN (SELECT tgfoid FROM pg_trigger
                            WHERE tgrelid = given.id AND NOT tgisinternal)
            WHEN given.schema IS NOT NULL THEN n.nspname = given.schema
            ELSE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
                 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass
                                    AND e.objid = p.oid AND e.deptype IN ('e', 'i')) END
 ORDER BY 1, 2, 3
