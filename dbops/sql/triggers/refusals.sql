-- What the connecting role may not change but would have to, one label each.
--
-- Given: schemas and names of the tables whose triggers change (two arrays of one length), our
-- functions, and those of them that have to be made anew.
WITH given (schemas, tables, functions, stale) AS (
    VALUES (%s::name[], %s::name[], %s::name[], %s::name[])
),
touched AS (
    SELECT c.oid, c.relkind
      FROM given, unnest(given.schemas, given.tables) AS g (schema, name)
      JOIN pg_namespace n ON n.nspname = g.schema
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = g.name
),
-- A trigger on a partitioned table is made on its partitions too, whoever owns them.
affected AS (
    SELECT oid FROM touched
     UNION
    SELECT tree.relid FROM touched, pg_partition_tree(oid) AS tree WHERE relkind = 'p'
),
refused AS (
    SELECT 'schema skinspire' AS label FROM given
     WHERE cardinality(stale) > 0
       AND NOT CASE WHEN to_regnamespace('skinspire') IS NULL
                    THEN has_database_privilege(current_database(), 'CREATE')
                    ELSE has_schema_privilege('skinspire', 'CREATE, USAGE') END
    UNION ALL
    SELECT 'function skinspire.' || p.proname FROM given, pg_proc p
     WHERE p.pronamespace = to_regnamespace('skinspire') AND p.pronargs = 0
       AND p.proname = ANY (functions)
       AND NOT CASE WHEN p.proname = ANY (stale) THEN pg_has_role(p.proowner, 'USAGE')
                    ELSE has_function_privilege(p.oid, 'EXECUTE') END
    UNION ALL
    SELECT 'table ' || n.nspname || '.' || c.relname FROM affected
      JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE NOT pg_has_role(c.relowner, 'USAGE')
)
SELECT label FROM refused ORDER BY label
