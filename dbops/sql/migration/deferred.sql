-- Constraints that are checked at the end of a transaction; SET CONSTRAINTS takes their names, which
-- several tables of a schema can share.
SELECT n.nspname, o.conname
  FROM pg_constraint o
  JOIN pg_namespace n ON n.oid = o.connamespace
 GROUP BY 1, 2
HAVING bool_and(o.condeferrable) AND bool_and(o.condeferred)
 ORDER BY 1, 2
