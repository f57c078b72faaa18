-- Each function and trigger of a set and how it stands: installed, outdated, disabled or missing.
-- A row without a table is a function. No rows at all where a table of the set does not exist.
--
-- Given: {function: comment without fingerprint}, and a list of {schema, table, name, function,
-- type, arguments, comment}, both as jsonb.
WITH given (functions, triggers) AS (VALUES (%s::jsonb, %s::jsonb)),
wanted AS (
    SELECT w.*, c.oid
      FROM given, jsonb_to_recordset(given.triggers) AS w (
               schema text, "table" text, name text, function text, type int2, arguments text,
               comment text)
      LEFT JOIN pg_namespace n ON n.nspname = w.schema
      LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w."table" AND c.relkind IN ('r', 'p')
),
made AS (
    SELECT w.key AS name, w.value AS comment, f.fingerprint,
           f.comment = w.value || ' ' || f.fingerprint AND NOT f.public AS current
      FROM given, jsonb_each_text(given.functions) AS w
      LEFT JOIN (
          SELECT p.proname, obj_description(p.oid, 'pg_proc') AS comment,
                 has_function_privilege('public', p.oid, 'EXECUTE') AS public,
                 encode(sha256(convert_to(jsonb_build_array(
                     p.prosrc, p.prosecdef, p.proconfig, l.lanname)::text, 'UTF8')), 'hex') AS fingerprint
            FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
           WHERE p.pronamespace = to_regnamespace('skinspire') AND p.pronargs = 0
      ) f ON f.proname = w.key
)
SELECT NULL AS schema, NULL AS "table", name,
       CASE WHEN fingerprint IS NULL THEN 'missing' WHEN current THEN 'installed'
            ELSE 'outdated' END AS state,
       comment || ' ' || fingerprint AS comment
  FROM made WHERE NOT EXISTS (SELECT FROM wanted WHERE oid IS NULL)
UNION ALL
SELECT w.schema, w."table", w.name,
       CASE WHEN t.oid IS NULL THEN 'missing'
            WHEN t.tgfoid <> coalesce(p.oid, 0) OR t.tgtype <> w.type OR t.tgqual IS NOT NULL
                 OR t.tgattr::text <> '' OR t.tgconstraint <> 0
                 OR encode(t.tgargs, 'escape') <> w.arguments
                 OR d.description IS DISTINCT FROM w.comment THEN 'outdated'
            WHEN t.tgenabled IN ('D', 'R') THEN 'disabled'
            WHEN NOT m.current THEN 'outdated'
            ELSE 'installed' END,
       w.comment
  FROM wanted w JOIN made m ON m.name = w.function
  LEFT JOIN pg_proc p ON p.proname = w.function AND p.pronargs = 0
                     AND p.pronamespace = to_regnamespace('skinspire')
  LEFT JOIN pg_trigger t ON t.tgrelid = w.oid AND t.tgname = w.name AND NOT t.tgisinternal
  LEFT JOIN pg_description d ON d.classoid = 'pg_trigger'::regclass AND d.objoid = t.oid
                            AND d.objsubid = 0
 WHERE NOT EXISTS (SELECT FROM wanted WHERE oid IS NULL)
 ORDER BY 1 NULLS FIRST, 2, 3
