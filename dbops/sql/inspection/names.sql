-- Everything --table can mean, by number.
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
   AND (n.nspname = %s OR n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
 ORDER BY 2, 3
