-- Indexes that neither serve a constraint nor belong to the index of a partitioned table.
SELECT 'pg_class'::regclass::oid, c.oid, 0, 'pg_class'::regclass::oid, i.indrelid, 0,
       c.relnamespace, 'index', c.relname, '',
       concat_ws(E'\n', pg_get_indexdef(c.oid),
           CASE WHEN i.indisclustered THEN 'CLUSTER' END,
           CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END,
           CASE WHEN NOT i.indisvalid THEN 'INVALID' END)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE c.oid >= 16384 AND NOT c.relispartition AND c.relpersistence <> 't'
   AND c.relkind IN ('i', 'I') AND NOT EXISTS (
       SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
   AND NOT EXISTS (SELECT FROM pg_class t WHERE t.oid = i.indrelid AND t.relkind = 't')
