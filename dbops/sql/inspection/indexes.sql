-- A table's indexes with their sizes, as their files have them.
SELECT c.relname, pg_get_indexdef(c.oid), i.indisunique, i.indisprimary, i.indisvalid,
       pg_relation_size(c.oid), pg_stat_get_numscans(c.oid), obj_description(c.oid, 'pg_class')
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = %s ORDER BY NOT i.indisprimary, 1
