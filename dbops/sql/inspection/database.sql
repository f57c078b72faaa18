-- The database itself and how much it is used now.
SELECT current_setting('server_version'), pg_database_size(d.oid),
       pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_get_userbyid(d.datdba),
       (SELECT count(*)::int FROM pg_stat_activity s
         WHERE s.datname = d.datname AND s.usename IS NOT NULL),
       (SELECT count(*)::int FROM pg_stat_activity s WHERE s.usename IS NOT NULL
           AND coalesce(s.backend_type, 'client backend') = 'client backend'),
       d.datconnlimit,
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),
       (SELECT count(*)::int FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_'
           AND n.nspname NOT IN ('information_schema', 'skinspire')
           AND NOT has_table_privilege(c.oid, 'SELECT')),
       current_user::text, age(d.datfrozenxid)
  FROM pg_database d WHERE d.datname = current_database()
