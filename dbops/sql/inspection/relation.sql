-- What a table is as a whole, with its sizes as its files have them.
SELECT pg_get_userbyid(c.relowner), obj_description(c.oid, 'pg_class'),
       CASE c.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'permanent' END,
       CASE WHEN c.relkind IN ('r', 'm') THEN pg_relation_size(c.oid) END,
       CASE WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) - pg_relation_size(c.oid) END,
       CASE WHEN c.relkind IN ('r', 'm') THEN pg_indexes_size(c.oid) END,
       CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
       CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END,
       (SELECT count(*)::int FROM pg_inherits h WHERE h.inhparent = c.oid),
       c.relrowsecurity,
       CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
       has_table_privilege(c.oid, 'SELECT')
  FROM pg_class c WHERE c.oid = %s
