-- Triggers, those of foreign keys left out.
--
-- Given: a schema or NULL for those of users, and a table's number or NULL for all.
SELECT n.nspname, c.relname, t.tgname,
       CASE WHEN t.tgtype & 64 > 0 THEN 'instead of' WHEN t.tgtype & 2 > 0 THEN 'before'
            ELSE 'after' END,
       concat_ws(', ', CASE WHEN t.tgtype & 4 > 0 THEN 'insert' END,
                       CASE WHEN t.tgtype & 16 > 0 THEN 'update' END,
                       CASE WHEN t.tgtype & 8 > 0 THEN 'delete' END,
                       CASE WHEN t.tgtype & 32 > 0 THEN 'truncate' END),
       CASE WHEN t.tgtype & 1 > 0 THEN 'row' ELSE 'statement' END,
       m.nspname, p.proname,
       CASE t.tgenabled WHEN 'D' THEN 'disabled' WHEN 'R' THEN 'on replicas'
                        WHEN 'A' THEN 'always' ELSE 'enabled' END,
       m.nspname = 'skinspire', c.relispartition AND t.tgparentid <> 0,
       pg_get_triggerdef(t.oid)
  FROM (VALUES (%s::text, %s::oid)) given (schema, id),
       pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace m ON m.oid = p.pronamespace
 WHERE NOT t.tgisinternal
   AND CASE WHEN given.id IS NOT NULL THEN c.oid = given.id
            WHEN given.schema IS NOT NULL THEN n.nspname = given.schema
            ELSE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire') END
 ORDER BY 1, 2, 3
