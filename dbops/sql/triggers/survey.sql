-- Every trigger that should be or is, one row each, with its state and the command that mends it;
-- and what cannot be served, as rows of state "skipped". Installs nothing.
--
-- Given: the schemas to look at and the relations (both NULL for all), {function: digest of its
-- file} as jsonb, the table of users ("schema.table" or NULL), and the rules of row history:
-- [{pattern, qualified, hidden}], where pattern and hidden are regular expressions.
-- Needs a search_path of pg_catalog alone, as our connections have it. In a new database nothing is
-- known of how many rows there are: what is joined to much is materialised, or found by an index.
WITH given (schemas, relations, sources, users, rules) AS (
    VALUES (%s::text[], %s::oid[], %s::jsonb, %s::text, %s::jsonb)
),
existing AS (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind AS kind,
           c.relispartition AS partition, c.relowner AS owner
      FROM given, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'skinspire')
       AND (given.schemas IS NULL OR n.nspname = ANY (given.schemas))
       AND (given.relations IS NULL OR c.oid = ANY (given.relations))
       AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass
                          AND e.objid = c.oid AND e.deptype = 'e')
),
relation AS MATERIALIZED (SELECT * FROM existing WHERE kind IN ('r', 'p')),
-- Partitions inherit the trigger of the partitioned table and get none of their own.
columns AS (
    SELECT r.oid, r.schema, r.name, a.attname::text AS column, k.family,
           CASE WHEN k.family = 'by' AND a.atttypmod > 0 THEN (a.atttypmod - 4)::text
                ELSE '' END AS length,
           a.atttypid = ANY ('{int2,int4,int8,uuid}'::regtype[]) AND f.to_user AS identifies,
           CASE WHEN a.attgenerated <> '' THEN 'generated'
                WHEN k.family = 'by' AND a.atttypid = ANY ('{int2,int4,int8,uuid}'::regtype[])
                THEN CASE WHEN f.to_user THEN NULL
                          ELSE format_type(a.atttypid, a.atttypmod)
                               || coalesce(' and does not refer to ' || given.users, '') END
                WHEN a.atttypid <> ALL (k.types) THEN format_type(a.atttypid, a.atttypmod)
                WHEN k.family = 'by' AND f.target IS NOT NULL
                THEN format_type(a.atttypid, a.atttypmod) || ' and refers to ' || f.target
                END AS obstacle
      FROM given, relation r JOIN pg_attribute a ON a.attrelid = r.oid AND NOT r.partition
      JOIN (VALUES ('created_at'::name, 'at', '{timestamptz,timestamp,date}'::regtype[]),
                   ('updated_at'::name, 'at', '{timestamptz,timestamp,date}'::regtype[]),
                   ('created_by'::name, 'by', '{text,varchar,bpchar}'::regtype[]),
                   ('updated_by'::name, 'by', '{text,varchar,bpchar}'::regtype[])
           ) AS k (name, family, types) ON k.name = a.attname
      -- What the column alone points at: which table, and whether that is a user's key.
      LEFT JOIN LATERAL (
          SELECT min(n.nspname || '.' || c.relname) AS target,
                 bool_or(n.nspname || '.' || c.relname = given.users
                     AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary
                                    AND i.indkey::text = f.confkey[1]::text)) AS to_user
            FROM pg_constraint f JOIN pg_class c ON c.oid = f.confrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE k.family = 'by' AND f.contype = 'f' AND f.conrelid = r.oid
             AND f.conkey = ARRAY[a.attnum]
      ) f ON true
),
named AS MATERIALIZED (
    SELECT *, CASE WHEN family = 'at' THEN 'at' WHEN identifies THEN 'id' ELSE 'by' END AS served_as
      FROM columns
),
served AS (
    SELECT oid, schema, name, CASE served_as WHEN 'at' THEN 'skinspire_timestamps'
                               WHEN 'id' THEN 'skinspire_actor_ids'
                               ELSE 'skinspire_actors' END AS trigger,
           CASE WHEN count(*) = 1 THEN 'set_' || min("column")
                     || CASE served_as WHEN 'id' THEN '_id' ELSE '' END
                WHEN served_as = 'at' THEN 'set_timestamps'
                WHEN served_as = 'id' THEN 'set_actor_ids' ELSE 'set_actors' END AS function,
           CASE served_as WHEN 'by' THEN array_agg(length ORDER BY "column")
                          ELSE '{}' END AS arguments
      FROM named WHERE obstacle IS NULL GROUP BY oid, schema, name, served_as
),
-- Whom the history writes for: what its function computes, its owner computes, casts of the
-- table's own types included. So only tables of that owner have one, and those of superusers.
writer AS (
    SELECT coalesce((SELECT p.proowner FROM pg_proc p WHERE p.proname = 'record_history'
                        AND p.pronamespace = to_regnamespace('skinspire') AND p.pronargs = 0),
                    (SELECT oid FROM pg_roles WHERE rolname = current_user)) AS owner
),
chosen AS (
    SELECT DISTINCT ON (r.oid) r.oid, r.schema, r.name, r.kind, rule ->> 'hidden' AS hidden,
           CASE WHEN r.owner <> w.owner
                 AND NOT (SELECT rolsuper FROM pg_roles WHERE oid = r.owner)
                THEN 'it belongs to ' || pg_get_userbyid(r.owner) || ', the history to '
                     || pg_get_userbyid(w.owner) END AS alien
      FROM given, writer w, relation r, jsonb_array_elements(given.rules) WITH ORDINALITY AS u (rule, place)
     WHERE NOT r.partition
       AND CASE WHEN (rule ->> 'qualified')::boolean THEN r.schema || '.' || r.name ELSE r.name END
           ~ (rule ->> 'pattern')
     ORDER BY r.oid, place
),
recorded AS MATERIALIZED (
    SELECT c.*, k.keys, coalesce(c.alien, CASE WHEN k.keys IS NULL THEN 'it has no primary key'
               WHEN k.hidden IS NOT NULL THEN 'its key ' || k.hidden || ' is kept out of it'
               END) AS obstacle
      FROM chosen c LEFT JOIN LATERAL (
          SELECT jsonb_agg(a.attname ORDER BY place)::text,
                 min(a.attname::text) FILTER (WHERE a.attname ~* c.hidden)
            FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS u (attnum, place),
                 pg_attribute a
           WHERE i.indrelid = c.oid AND i.indisprimary
             AND a.attrelid = c.oid AND a.attnum = u.attnum
      ) k (keys, hidden) ON true
),
needed (oid, schema, name, trigger, function, arguments, kind) AS (
    -- 23: BEFORE INSERT OR UPDATE FOR EACH ROW; 29: AFTER INSERT OR DELETE OR UPDATE.
    SELECT oid, schema, name, trigger, function, arguments, 23 FROM served
    UNION ALL
    SELECT oid, schema, name, 'skinspire_history', 'record_history',
           ARRAY[keys, hidden] || CASE kind WHEN 'p' THEN ARRAY[schema, name] ELSE '{}' END, 29
      FROM recorded WHERE obstacle IS NULL
),
wanted AS MATERIALIZED (
    SELECT needed.*, 'skinspire:' || encode(sha256(convert_to(concat_ws(
               ' ', given.sources ->> function, function, arguments::text), 'UTF8')), 'hex') AS comment
      FROM needed, given
),
found AS MATERIALIZED (
    SELECT r.oid, r.schema, r.name, r.partition, t.tgname::text AS trigger, t.tgenabled NOT IN ('D', 'R') AS enabled,
           n.nspname::text AS function_schema, p.proname::text AS function,
           encode(t.tgargs, 'escape') AS arguments, t.tgtype AS kind,
           t.tgqual IS NULL AND t.tgconstraint = 0 AND t.tgattr::text = '' AS unconditional,
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
    SELECT coalesce(w.oid, f.oid) AS oid, coalesce(w.schema, f.schema) AS schema,
           coalesce(w.name, f.name) AS name, coalesce(w.trigger, f.trigger) AS trigger,
           w.function, w.arguments, w.comment, w.kind, f.oid IS NOT NULL AS present, f.enabled,
           f.partition,
           coalesce(f.trigger IN ('skinspire_timestamps', 'skinspire_actors', 'skinspire_actor_ids',
                                  'skinspire_history')
               AND (w.oid IS NOT NULL OR f.function_schema = 'skinspire'
                    OR f.comment ~ '^skinspire:'), false) AS ours,
           w.oid IS NOT NULL AS wanted,
           -- Made anew rather than replaced: sessions that fired it keep what they learned of the
           -- columns, their old length included, by its oid.
           CASE WHEN f.function_schema = 'skinspire'
                THEN 'DROP TRIGGER ' || quote_ident(w.trigger) || ' ON ' END AS first,
           f.unconditional AND f.kind = w.kind AND f.function_schema = 'skinspire'
               AND f.function = w.function AND f.comment = w.comment
               -- pg_trigger ends each argument with a NUL, shown as a backslash and 000.
               AND f.arguments = (
                   SELECT coalesce(string_agg(encode(convert_to(a, getdatabaseencoding()), 'escape')
                                              || chr(92) || '000', '' ORDER BY i), '')
                     FROM unnest(w.arguments) WITH ORDINALITY u (a, i)) AS same,
           jsonb_build_array(f.trigger, f.enabled, f.function_schema, f.function, f.arguments,
                             f.unconditional AND f.kind IN (23, 29), f.comment)::text AS fact
      FROM wanted w FULL JOIN found f ON f.oid = w.oid AND f.trigger = w.trigger
),
stated AS (
    SELECT c.*,
           CASE WHEN NOT c.present THEN 'missing'
                WHEN c.wanted AND NOT c.same THEN 'changed'
                WHEN c.ours AND NOT c.enabled AND (c.wanted OR c.partition) THEN 'disabled'
                WHEN c.wanted THEN 'installed'
                WHEN c.ours AND c.partition THEN 'inherited'
                WHEN c.ours THEN 'obsolete'
                WHEN c.trigger IN ('update_timestamp', 'track_user_changes', 'hash_password')
                THEN CASE WHEN c.partition THEN 'unmanaged' ELSE 'legacy' END
                WHEN c.oid IN (SELECT oid FROM wanted) THEN 'foreign'
                ELSE 'unmanaged' END AS state,
           quote_ident(c.schema) || '.' || quote_ident(c.name) AS place,
           quote_ident(c.trigger) AS quoted
      FROM compared c
)
SELECT schema, name, trigger, state, function, arguments, comment, CASE WHEN ours THEN fact END,
       CASE WHEN state = 'disabled' THEN 'ALTER TABLE ' || place || ' ENABLE TRIGGER ' || quoted
            WHEN state = 'obsolete' THEN 'DROP TRIGGER ' || quoted || ' ON ' || place
            WHEN state IN ('missing', 'changed') THEN
                coalesce(first || place || E';\n', '') || 'CREATE OR REPLACE TRIGGER ' || quoted
                || CASE kind WHEN 23 THEN ' BEFORE INSERT OR UPDATE ON '
                             ELSE ' AFTER INSERT OR UPDATE OR DELETE ON ' END
                || place || E'\n    FOR EACH ROW EXECUTE FUNCTION skinspire.' || quote_ident(function)
                || '(' || (SELECT coalesce(string_agg(quote_literal(a), ', ' ORDER BY i), '')
                             FROM unnest(arguments) WITH ORDINALITY u (a, i)) || E');\n'
                || 'COMMENT ON TRIGGER ' || quoted || ' ON ' || place || ' IS '
                || quote_literal(comment) END AS command
  FROM stated
UNION ALL
SELECT schema, name, "column" || ' is ' || obstacle, 'skipped', NULL, NULL, NULL, NULL, NULL
  FROM named WHERE obstacle IS NOT NULL
UNION ALL
SELECT schema, name, 'has no row history: ' || obstacle, 'skipped', NULL, NULL, NULL, NULL, NULL
  FROM recorded WHERE obstacle IS NOT NULL
UNION ALL
SELECT r.schema, r.name,
       CASE r.kind WHEN 'v' THEN 'is a view' WHEN 'm' THEN 'is a materialised view'
                   ELSE 'is a foreign table' END, 'skipped', NULL, NULL, NULL, NULL, NULL
  FROM existing r
 WHERE r.kind IN ('v', 'm', 'f') AND NOT r.partition AND EXISTS (
       SELECT FROM pg_attribute a WHERE a.attrelid = r.oid AND NOT a.attisdropped
          AND a.attname IN ('created_at', 'updated_at', 'created_by', 'updated_by'))
 ORDER BY 1, 2, 3
