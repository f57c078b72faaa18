-- The locks a session holds on tables.
SELECT l.relation::bigint, l.mode
  FROM pg_locks l
 WHERE l.pid = %s AND l.locktype = 'relation' AND l.granted
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
