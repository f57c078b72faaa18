-- Triggers of the earlier system, as they are, with what it takes to make them again. The last
-- column: whether partitions have theirs in another state than the parent's, which no definition
-- tells.
SELECT n.nspname, c.relname, t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text,
       obj_description(t.oid, 'pg_trigger'),
       quote_ident(m.nspname) || '.' || quote_ident(p.proname) || '()',
       pg_get_functiondef(p.oid),
       EXISTS (SELECT FROM pg_trigger h WHERE h.tgparentid = t.oid AND h.tgenabled <> t.tgenabled)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace m ON m.oid = p.pronamespace
 WHERE t.tgname IN ('update_timestamp', 'track_user_changes', 'hash_password')
   AND NOT t.tgisinternal AND t.tgparentid = 0
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
 ORDER BY 1, 2, 3
