-- Tables, views and materialised views. Where they lie (tablespaces) is the server's affair.
WITH parents AS (
    SELECT inhrelid, string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) AS names
      FROM pg_inherits GROUP BY inhrelid
)
SELECT 'pg_class'::regclass::oid, c.oid, 0, 0, 0, 0, c.relnamespace,
       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialised view'
                      WHEN 'f' THEN 'foreign table' ELSE 'table' END, c.relname, '',
       concat_ws(E'\n',
           CASE WHEN c.relkind IN ('r', 'p')
                THEN CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END || 'TABLE' END,
           CASE WHEN c.relkind = 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(c.oid) END,
           CASE WHEN c.relispartition THEN 'PARTITION OF ' ELSE 'INHERITS ' END || i.names,
           CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END,
           'OF ' || nullif(c.reloftype, 0)::regtype,
           'USING ' || nullif(m.amname, 'heap'),
           'WITH (' || (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C")
                          FROM unnest(c.reloptions) o) || ')',
           'TOAST (' || (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C")
                           FROM unnest(t.reloptions) o) || ')',
           CASE WHEN c.relrowsecurity THEN 'ENABLE ROW LEVEL SECURITY' END,
           CASE WHEN c.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END,
           CASE c.relreplident WHEN 'f' THEN 'REPLICA IDENTITY FULL'
                WHEN 'n' THEN CASE WHEN c.relkind IN ('r', 'p') THEN 'REPLICA IDENTITY NOTHING' END
                END,
           -- A password may stand among them, and what is read here is shown.
           (SELECT format('SERVER %I OPTIONS (%s)', s.srvname, (
                       SELECT string_agg(regexp_replace(o,
                                '^([^=]*(pass|secret|token|credential|api_?key)[^=]*)=.*', '\1=***', 'i'),
                              ', ' ORDER BY n)
                         FROM unnest(f.ftoptions) WITH ORDINALITY AS given(o, n)))
              FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver
             WHERE f.ftrelid = c.oid),
           CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END)
  FROM pg_class c LEFT JOIN parents i ON i.inhrelid = c.oid
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid AND t.reloptions IS NOT NULL
  LEFT JOIN pg_am m ON m.oid = c.relam
 WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND c.relpersistence <> 't'
