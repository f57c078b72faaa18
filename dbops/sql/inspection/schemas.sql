-- Schemas of users, with how much is in each; sizes as of the last VACUUM or ANALYZE.
--
-- Given: a schema or NULL for all of them.
SELECT n.nspname, pg_get_userbyid(n.nspowner),
       count(c.oid) FILTER (WHERE c.relkind IN ('r', 'p'))::int,
       count(c.oid) FILTER (WHERE c.relkind IN ('v', 'm'))::int,
       count(c.oid) FILTER (WHERE c.relkind = 'S')::int,
       (SELECT count(*)::int FROM pg_proc p WHERE p.pronamespace = n.oid),
       coalesce(sum(c.relpages) FILTER (WHERE c.relkind IN ('r', 'i', 'm')), 0)::bigint
           * current_setting('block_size')::bigint,
       obj_description(n.oid, 'pg_namespace')
  FROM (VALUES (%s::text)) given (schema), pg_namespace n
  LEFT JOIN pg_class c ON c.relnamespace = n.oid
 WHERE CASE WHEN given.schema IS NOT NULL THEN n.nspname = given.schema
            ELSE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire') END
 GROUP BY n.oid, n.nspname, n.nspowner ORDER BY 1
