-- The connecting role, and how many tables of users it may not read.
SELECT current_user::text, count(*)::int
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'skinspire')
   AND NOT has_table_privilege(c.oid, 'SELECT')
