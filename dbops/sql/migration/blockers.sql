-- For whom a session waits, and for what. Of other roles' sessions an ordinary role sees the name.
SELECT coalesce(n.nspname || '.' || c.relname,
                'a row another transaction has changed'),
       b.pid, coalesce(b.usename::text, 'another role'), coalesce(b.application_name, ''),
       coalesce(b.state, 'active'), b.xact_start
  FROM pg_locks l
  LEFT JOIN pg_class c ON c.oid = l.relation
  LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS blocking (pid)
  JOIN pg_stat_activity b ON b.pid = blocking.pid
 WHERE l.pid = %s AND NOT l.granted
 ORDER BY b.xact_start NULLS LAST, b.pid
 LIMIT 1
