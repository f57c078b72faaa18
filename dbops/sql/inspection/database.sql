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
       age(d.datfrozenxid)
  FROM pg_database d WHERE d.datname = current_database()
