-- Tables, partitioned and foreign tables and materialised views, one row each.
--
-- Rows and sizes are those of the last VACUUM, ANALYZE or CREATE INDEX (pg_class): nothing is counted
-- and no file is looked at, so that ten thousand tables cost what reading the catalogue costs. Only of
-- tables that were never vacuumed or analysed, and while there are few, the files are looked at, unless
-- somebody has locked them. Bloat is estimated from 1 MiB upwards, by the width of the rows.
--
-- Given: a schema or NULL for those of users, and a table's number or NULL for all.
WITH given (schema, id) AS (VALUES (%s::text, %s::oid)),
relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples, c.relpages, c.reltoastrelid,
           c.relispartition, c.reloptions,
           coalesce(c.reltuples, -1) < 0 AND c.relkind IN ('r', 'm') AS unknown
      FROM given, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
       AND CASE WHEN given.id IS NOT NULL THEN c.oid = given.id
                WHEN given.schema IS NOT NULL THEN n.nspname = given.schema
                ELSE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
                     AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
                                        AND e.objid = c.oid AND e.deptype = 'e') END
),
looked_at AS (
    SELECT oid, pg_relation_size(oid) AS heap, pg_table_size(oid) AS whole, pg_indexes_size(oid) AS keys
      FROM relation WHERE unknown AND (SELECT count(*) FROM relation WHERE unknown) <= 500
       AND oid NOT IN (SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock'
                          AND locktype = 'relation')
),
indexes AS (
    SELECT i.indrelid, count(*) AS number, sum(x.relpages)::bigint AS pages,
           count(*) FILTER (WHERE NOT i.indisvalid) AS invalid
      FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid GROUP BY i.indrelid
),
triggers AS (
    SELECT tgrelid, count(*) AS number FROM pg_trigger WHERE NOT tgisinternal GROUP BY tgrelid
),
page (bytes) AS (VALUES (current_setting('block_size')::bigint)),
-- A row takes its columns, a header of 24 bytes and 4 in the page's list; a page has a header of 24.
-- What aligning adds is left out, so the estimate is rather too low. The statistics of a column that
-- the role may not read are not there: then nothing is told.
large AS MATERIALIZED (
    SELECT oid, nspname, relname, reltuples, relpages, coalesce((
               SELECT o.option_value::int FROM pg_options_to_table(reloptions) o
                WHERE o.option_name = 'fillfactor'), 100) AS fill
      FROM relation WHERE relpages >= 128 AND reltuples >= 0 AND relkind IN ('r', 'm')
),
bloat AS (
    SELECT l.oid, greatest(0, l.relpages - ceil(l.reltuples * (28 + s.width)
                      / ((page.bytes - 24) * l.fill / 100)))::bigint * page.bytes AS bytes
      FROM large l, page, LATERAL (
          SELECT sum((1 - null_frac) * avg_width) AS width FROM pg_stats
           WHERE schemaname = l.nspname AND tablename = l.relname AND NOT inherited
          HAVING count(*) = (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = l.oid
                                AND a.attnum > 0 AND NOT a.attisdropped)) s
)
SELECT r.nspname, r.relname,
       CASE r.relkind WHEN 'p' THEN 'partitioned table' WHEN 'm' THEN 'materialised view'
                      WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       CASE WHEN r.reltuples >= 0 AND r.relkind <> 'p' THEN r.reltuples::bigint
            WHEN l.heap = 0 THEN 0 END,
       CASE WHEN r.relkind IN ('p', 'f') THEN NULL
            WHEN NOT r.unknown THEN (r.relpages + coalesce(t.relpages + ti.pages, 0)) * page.bytes
            ELSE l.whole END,
       CASE WHEN r.relkind IN ('p', 'f') THEN NULL
            WHEN r.unknown THEN l.keys ELSE coalesce(i.pages, 0) * page.bytes END,
       coalesce(i.number, 0)::int, coalesce(i.invalid, 0)::int, coalesce(g.number, 0)::int,
       b.bytes,
       pg_stat_get_dead_tuples(r.oid),
       greatest(pg_stat_get_last_vacuum_time(r.oid), pg_stat_get_last_autovacuum_time(r.oid)),
       greatest(pg_stat_get_last_analyze_time(r.oid), pg_stat_get_last_autoanalyze_time(r.oid)),
       CASE WHEN r.relispartition THEN (
           SELECT m.nspname || '.' || p.relname FROM pg_inherits h
             JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace m ON m.oid = p.relnamespace
            WHERE h.inhrelid = r.oid LIMIT 1) END
  FROM relation r CROSS JOIN page
  LEFT JOIN looked_at l ON l.oid = r.oid
  LEFT JOIN indexes i ON i.indrelid = r.oid
  LEFT JOIN pg_class t ON t.oid = r.reltoastrelid AND r.reltoastrelid <> 0
  LEFT JOIN indexes ti ON ti.indrelid = t.oid
  LEFT JOIN triggers g ON g.tgrelid = r.oid
  LEFT JOIN bloat b ON b.oid = r.oid
 ORDER BY 1, 2
