-- A table's constraints; NOT NULL, which PostgreSQL 18 lists here too, is told with the columns.
SELECT k.conname,
       CASE k.contype WHEN 'p' THEN 'primary key' WHEN 'u' THEN 'unique' WHEN 'f' THEN 'foreign key'
                      WHEN 'c' THEN 'check' WHEN 'x' THEN 'exclusion' ELSE 'trigger' END,
       pg_get_constraintdef(k.oid), k.convalidated, k.condeferrable,
       obj_description(k.oid, 'pg_constraint')
  FROM pg_constraint k WHERE k.conrelid = %s AND k.contype <> 'n'
 ORDER BY position(k.contype::text IN 'pufcxt'), 1
