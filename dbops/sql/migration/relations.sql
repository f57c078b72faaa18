-- Every table of users as it is: number, name, file, and rows this session has written so far.
SELECT c.oid::bigint, n.nspname || '.' || c.relname, coalesce(pg_relation_filenode(c.oid), 0)::bigint,
       c.relkind IN ('r', 'm'),
       coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd, 0), coalesce(s.n_tup_del, 0)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_stat_xact_user_tables s ON s.relid = c.oid
 WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
