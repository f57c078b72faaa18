-- Every trigger that should be or is, one row each, with its state; and the columns of our names
-- that cannot be served, as rows of state "skipped". Installs nothing.
--
-- Given: the schemas to look at (NULL for all), and {function: digest of its file} as jsonb.
-- Needs a search_path of pg_catalog alone, as our connections have it.
WITH given (schemas, sources) AS (VALUES (%s::text[], %s::jsonb)),
relation AS (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relispartition AS partition
      FROM given, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
       AND (given.schemas IS NULL OR n.nspname = ANY (given.schemas))
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
                          AND e.objid = c.oid AND e.deptype = 'e')
),
-- Partitions inherit the trigger of the partitioned table and get none of their own.
named AS (
    SELECT r.oid, a.attname::text AS column, k.family,
           CASE WHEN k.family = 'by' AND a.atttypmod > 0 THEN (a.atttypmod - 4)::text
                ELSE '' END AS length,
           CASE WHEN a.attgenerated <> '' THEN 'generated'
                WHEN a.atttypid <> ALL (k.types) THEN format_type(a.atttypid, a.atttypmod)
                END AS obstacle
      FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND NOT r.partition
      JOIN (VALUES ('created_at'::name, 'at', '{timestamptz,timestamp,date}'::regtype[]),
                   ('updated_at'::name, 'at', '{timestamptz,timestamp,date}'::regtype[]),
                   ('created_by'::name, 'by', '{text,varchar,bpchar}'::regtype[]),
                   ('updated_by'::name, 'by', '{text,varchar,bpchar}'::regtype[])
           ) AS k (name, family, types) ON k.name = a.attname
),
served AS (
    SELECT oid, CASE family WHEN 'at' THEN 'skinspire_timestamps'
                            ELSE 'skinspire_actors' END AS trigger,
           CASE WHEN count(*) = 1 THEN 'set_' || min("column")
                WHEN family = 'at' THEN 'set_timestamps' ELSE 'set_actors' END AS function,
           CASE family WHEN 'at' THEN '{}' ELSE array_agg(length ORDER BY "column") END AS arguments
      FROM named WHERE obstacle IS NULL GROUP BY oid, family
),
wanted AS (
    SELECT served.*, 'skinspire:' || encode(sha256(convert_to(concat_ws(
               ' ', given.sources ->> function, function, arguments::text), 'UTF8')), 'hex') AS comment
      FROM served, given
),
found AS (
    SELECT r.oid, r.partition, t.tgname::text AS trigger, t.tgenabled NOT IN ('D', 'R') AS enabled,
           n.nspname::text AS function_schema, p.proname::text AS function,
           encode(t.tgargs, 'escape') AS arguments,
           -- 23: BEFORE INSERT OR UPDATE FOR EACH ROW.
           t.tgtype = 23 AND t.tgqual IS NULL AND t.tgconstraint = 0 AND t.tgattr::text = '' AS plain,
           -- A trigger that a partition inherits has no comment of its own.
           CASE WHEN r.partition THEN '' ELSE coalesce(d.description, '') END AS comment
      FROM relation r
      JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
      JOIN pg_proc p ON p.oid = t.tgfoid
      JOIN pg_namespace n ON n.oid = p.pronamespace
      LEFT JOIN pg_description d
        ON d.classoid = 'pg_trigger'::regclass AND d.objoid = t.oid AND d.objsubid = 0
),
compared AS (
    SELECT coalesce(w.oid, f.oid) AS oid, coalesce(w.trigger, f.trigger) AS trigger,
           w.function, w.arguments, w.comment, f.oid IS NOT NULL AS present, f.enabled, f.partition,
           coalesce(f.trigger IN ('skinspire_timestamps', 'skinspire_actors')
               AND (w.oid IS NOT NULL OR f.function_schema = 'skinspire'
                    OR f.comment ~ '^skinspire:'), false) AS ours,
           w.oid IS NOT NULL AS wanted,
           f.plain AND f.function_schema = 'skinspire' AND f.function = w.function
               AND f.comment = w.comment
               -- pg_trigger ends each argument with a NUL, shown as a backslash and 000.
               AND f.arguments = (SELECT coalesce(string_agg(a || chr(92) || '000', '' ORDER BY i), '')
                                    FROM unnest(w.arguments) WITH ORDINALITY u (a, i)) AS same,
           jsonb_build_array(f.trigger, f.enabled, f.function_schema, f.function, f.arguments,
                             f.plain, f.comment)::text AS fact
      FROM wanted w FULL JOIN found f ON f.oid = w.oid AND f.trigger = w.trigger
)
SELECT r.schema, r.name, c.trigger,
       CASE WHEN NOT c.present THEN 'missing'
            WHEN c.wanted AND NOT c.same THEN 'changed'
            WHEN c.ours AND NOT c.enabled AND (c.wanted OR c.partition) THEN 'disabled'
            WHEN c.wanted THEN 'installed'
            WHEN c.ours AND c.partition THEN 'inherited'
            WHEN c.ours THEN 'obsolete'
            WHEN c.oid IN (SELECT oid FROM wanted) THEN 'foreign'
            ELSE 'unmanaged' END AS state,
       c.function, c.arguments, c.comment, CASE WHEN c.ours THEN c.fact END AS fact
  FROM compared c JOIN relation r USING (oid)
UNION ALL
SELECT r.schema, r.name, k.column || ' is ' || k.obstacle, 'skipped', NULL, NULL, NULL, NULL
  FROM named k JOIN relation r USING (oid) WHERE k.obstacle IS NOT NULL
 ORDER BY 1, 2, 3
