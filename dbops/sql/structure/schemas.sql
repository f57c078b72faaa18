-- Schemas of users, and extensions.
SELECT 'pg_namespace'::regclass::oid, n.oid, 0, 0, 0, 0, 0, 'schema', n.nspname, '', ''
  FROM pg_namespace n
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
UNION ALL
SELECT 'pg_extension'::regclass, e.oid, 0, 0, 0, 0, 0, 'extension', e.extname, '',
       format('version %s, schema %s', e.extversion, e.extnamespace::regnamespace)
  FROM pg_extension e WHERE e.extname <> 'plpgsql'
