-- Indexes of users' tables that are invalid, or B-trees from 8 MiB upwards with an estimate of what
-- they would need: an entry takes its columns, a header of 8 bytes and 4 in the page's list, and pages
-- are filled to nine tenths. That equal keys are kept once makes an index smaller than that, so
-- the estimate never calls a healthy one bloated.
--
-- Given: whether the server knows the privilege MAINTAIN (since 17).
SELECT n.nspname, x.relname, t.relname, i.indisvalid, i.indisunique,
       x.relname ~ '_cc(new|old)[0-9]*$' AND NOT i.indisvalid,
       x.relpages * page.bytes,
       CASE WHEN i.indisvalid THEN (SELECT ceil(x.reltuples * (12 + sum((1 - s.null_frac) * s.avg_width))
                  / ((page.bytes - 40) * 0.9))::bigint * page.bytes
              FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
              JOIN pg_attribute a ON a.attrelid = CASE k.attnum WHEN 0 THEN x.oid ELSE t.oid END
               AND a.attnum = CASE k.attnum WHEN 0 THEN k.place ELSE k.attnum END
              JOIN pg_stats s ON s.schemaname = n.nspname AND s.attname = a.attname AND NOT s.inherited
               AND s.tablename = CASE k.attnum WHEN 0 THEN x.relname ELSE t.relname END
            HAVING count(*) = i.indnatts) END,
       EXISTS (SELECT FROM pg_locks l WHERE l.relation IN (x.oid, t.oid) AND l.pid <> pg_backend_pid()
                  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'AccessExclusiveLock')),
       pg_has_role(t.relowner, 'USAGE') OR given.has_maintain AND has_table_privilege(t.oid,
           CASE WHEN given.has_maintain THEN 'MAINTAIN' ELSE 'SELECT' END),
       pg_has_role(t.relowner, 'USAGE'), pg_get_userbyid(t.relowner)
  FROM (VALUES (%s::boolean)) given (has_maintain),
       (VALUES (current_setting('block_size')::bigint)) page (bytes),
       pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = x.relnamespace JOIN pg_am m ON m.oid = x.relam
 WHERE x.relkind = 'i' AND t.relkind IN ('r', 'm') AND t.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND (NOT i.indisvalid OR m.amname = 'btree' AND x.relpages * page.bytes >= 8388608)
 ORDER BY 1, 2
