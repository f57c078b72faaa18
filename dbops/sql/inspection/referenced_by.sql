-- Foreign keys of other tables, or of itself, that point at a table.
SELECT n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE k.contype = 'f' AND k.confrelid = %s AND k.conparentid = 0 ORDER BY 1, 2, 3
