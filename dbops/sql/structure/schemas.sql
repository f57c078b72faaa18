-- Schemas of users, and extensions.
SELECT 'pg_namespace'::regclass::oid, n.oid, 0, 0, 0, 0, 0, 'schema', n.nspname, '', ''
  FROM pg_namespace n
 WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
UNION ALL
SELECT 'pg_extension'::regclass, e.oid, 0, 0, 0, 0, 0, 'extension', e.extname, '',
       format(E'version %s%s\nschema %s', e.extversion,
              CASE e.extversion WHEN a.default_version THEN ' (default)' END,
              e.extnamespace::regnamespace)
  FROM pg_extension e LEFT JOIN pg_available_extensions a ON a.name = e.extname
 WHERE e.extname <> 'plpgsql'
