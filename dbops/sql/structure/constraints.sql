-- Constraints of tables and domains, what the index behind a key has beside the key included.
-- Inherited ones are told with the table they come from; NOT NULL belongs to the column.
SELECT 'pg_constraint'::regclass::oid, k.oid, 0,
       CASE k.conrelid WHEN 0 THEN 'pg_type'::regclass::oid ELSE 'pg_class'::regclass::oid END,
       CASE k.conrelid WHEN 0 THEN k.contypid ELSE k.conrelid END, 0, 0,
       'constraint', k.conname, '',
       concat_ws(E'\n', pg_get_constraintdef(k.oid),
           'WITH (' || array_to_string(c.reloptions, ', ') || ')',
           CASE WHEN i.indisclustered THEN 'CLUSTER' END,
           CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END,
           CASE WHEN NOT i.indisvalid THEN 'INVALID' END)
  FROM pg_constraint k
  LEFT JOIN pg_index i ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
  LEFT JOIN pg_class c ON c.oid = i.indexrelid
 WHERE k.oid >= 16384 AND k.contype IN ('c', 'f', 'p', 'u', 'x')
   AND k.conparentid = 0 AND k.coninhcount = 0
