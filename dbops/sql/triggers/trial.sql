-- What firing triggers on a row of a table needs: its name, {column: type} of the columns that can be
-- written, in their order; those of them whose value can be any; the constraint by which a second row like it is noticed at once; triggers
-- of others that fire before a row is written; whether deleting a row changes other tables.
--
-- Given: the table's oid.
SELECT c.oid::regclass::text,
       (SELECT json_object_agg(a.attname, format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum)
          FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND a.attgenerated = ''),
       -- Those that no key, check or unique index is about, the most harmless first.
       ARRAY(SELECT a.attname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND a.attgenerated = '' AND a.attidentity = ''
                AND t.typcategory IN ('D', 'S', 'N', 'B') AND t.typtype = 'b'
                AND NOT EXISTS (SELECT FROM pg_constraint k
                                 WHERE k.conrelid = c.oid AND k.contype <> 'n'
                                   AND a.attnum = ANY (k.conkey))
                AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique
                                   AND a.attnum = ANY (i.indkey::int2[]))
                AND NOT (c.relispartition AND pg_get_partkeydef(pg_partition_root(c.oid))
                         ~ ('\m' || a.attname || '\M'))
              ORDER BY position(t.typcategory::text IN 'DSNB'), a.attnum),
       (SELECT k.conname FROM pg_constraint k
         WHERE k.conrelid = c.oid AND k.contype = 'p' AND NOT k.condeferrable),
       ARRAY(SELECT t.tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
              WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 3 = 3
                AND t.tgenabled IN ('O', 'A')
                AND p.pronamespace IS DISTINCT FROM to_regnamespace('skinspire')::oid ORDER BY 1),
       EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.confdeltype NOT IN ('a', 'r')
                  AND k.confrelid IN (SELECT c.oid UNION SELECT relid::oid FROM pg_partition_ancestors(c.oid)))
  FROM pg_class c WHERE c.oid = %s
