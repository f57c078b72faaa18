-- Tables of users and what is due on them, by the thresholds the server's autovacuum goes by: its
-- settings, or the table's own.
--
-- Given: whether the server knows the privilege MAINTAIN (since 17).
WITH given (has_maintain) AS (VALUES (%s::boolean)),
setting AS (
    SELECT current_setting('autovacuum_vacuum_threshold')::float8 AS vacuum_threshold,
           current_setting('autovacuum_vacuum_scale_factor')::float8 AS vacuum_factor,
           current_setting('autovacuum_vacuum_insert_threshold')::float8 AS insert_threshold,
           current_setting('autovacuum_vacuum_insert_scale_factor')::float8 AS insert_factor,
           current_setting('autovacuum_analyze_threshold')::float8 AS analyze_threshold,
           current_setting('autovacuum_analyze_scale_factor')::float8 AS analyze_factor,
           current_setting('autovacuum_freeze_max_age')::float8 AS freeze_age,
           current_setting('autovacuum_multixact_freeze_max_age')::float8 AS multixact_age
),
relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, greatest(c.reltuples, 0) AS rows,
           c.reltuples < 0 AS unknown, c.relpages,
           greatest(age(c.relfrozenxid), coalesce((SELECT age(t.relfrozenxid) FROM pg_class t
                                                    WHERE t.oid = c.reltoastrelid), 0)) AS age,
           mxid_age(c.relminmxid) AS multixact_age,
           pg_stat_get_dead_tuples(c.oid) AS dead, pg_stat_get_mod_since_analyze(c.oid) AS changed,
           pg_stat_get_ins_since_vacuum(c.oid) AS inserted,
           coalesce((SELECT jsonb_object_agg(option_name, option_value)
                       FROM pg_options_to_table(c.reloptions)), '{}') AS own,
           pg_has_role(c.relowner, 'USAGE') OR pg_has_role(d.datdba, 'USAGE')
               OR pg_has_role('pg_database_owner', 'USAGE') AS may,
           pg_get_userbyid(c.relowner) AS owner
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_database d ON d.datname = current_database()
     WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
),
due AS (
    SELECT r.*, s.freeze_age, s.multixact_age AS multixact_limit,
           coalesce((own ->> 'autovacuum_vacuum_threshold')::float8, s.vacuum_threshold) + rows *
               coalesce((own ->> 'autovacuum_vacuum_scale_factor')::float8, s.vacuum_factor) AS dead_limit,
           coalesce((own ->> 'autovacuum_vacuum_insert_threshold')::float8, s.insert_threshold) + rows *
               coalesce((own ->> 'autovacuum_vacuum_insert_scale_factor')::float8, s.insert_factor)
               AS insert_limit,
           coalesce((own ->> 'autovacuum_analyze_threshold')::float8, s.analyze_threshold) + rows *
               coalesce((own ->> 'autovacuum_analyze_scale_factor')::float8, s.analyze_factor)
               AS changed_limit
      FROM relation r, setting s
)
SELECT nspname, relname, relkind,
       coalesce(dead > dead_limit OR inserted > insert_limit, false) AND relkind <> 'p',
       CASE WHEN unknown THEN CASE relkind
                WHEN 'p' THEN EXISTS (SELECT FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
                                       WHERE i.inhparent = due.oid AND k.reltuples > 0)
                ELSE changed > 0 OR pg_relation_size(oid) > 0 END
            ELSE changed > changed_limit END,
       relkind <> 'p' AND (age > freeze_age * 0.5 OR multixact_age > multixact_limit * 0.5),
       dead::bigint, inserted::bigint, changed::bigint, rows::bigint, unknown, age::bigint,
       may OR given.has_maintain AND has_table_privilege(oid,
           CASE WHEN given.has_maintain THEN 'MAINTAIN' ELSE 'SELECT' END), owner
  FROM due, given
 ORDER BY 1, 2
