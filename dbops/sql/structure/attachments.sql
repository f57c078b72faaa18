-- What hangs on a table or view: triggers, rules, policies and extended statistics.
-- Our own triggers are left out; a trigger that a partition inherits is told where its state is
-- another one.
SELECT 'pg_trigger'::regclass::oid, t.oid, 0, 'pg_class'::regclass::oid, t.tgrelid, 0, 0::oid,
       'trigger', t.tgname, '',
       concat_ws(E'\n', CASE t.tgparentid WHEN 0 THEN pg_get_triggerdef(t.oid) END,
           CASE t.tgenabled WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'ENABLED ON REPLICA'
                            WHEN 'A' THEN 'ENABLED ALWAYS'
                            ELSE CASE WHEN t.tgparentid <> 0 THEN 'ENABLED' END END)
  FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
  LEFT JOIN pg_trigger o ON o.oid = t.tgparentid
 WHERE NOT t.tgisinternal AND o.tgenabled IS DISTINCT FROM t.tgenabled
   AND NOT (t.tgname IN ('skinspire_timestamps', 'skinspire_actors', 'skinspire_actor_ids',
                         'skinspire_history')
            AND p.pronamespace IS NOT DISTINCT FROM to_regnamespace('skinspire')::oid)
UNION ALL
SELECT 'pg_rewrite'::regclass, r.oid, 0, 'pg_class'::regclass, r.ev_class, 0, 0, 'rule',
       r.rulename, '',
       concat_ws(E'\n', pg_get_ruledef(r.oid),
           CASE r.ev_enabled WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'ENABLED ON REPLICA'
                             WHEN 'A' THEN 'ENABLED ALWAYS' END)
  FROM pg_rewrite r WHERE r.oid >= 16384 AND r.rulename <> '_RETURN'
UNION ALL
SELECT 'pg_policy'::regclass, p.oid, 0, 'pg_class'::regclass, p.polrelid, 0, 0, 'policy',
       p.polname, '',
       concat_ws(E'\n', CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           CASE p.polcmd WHEN 'r' THEN 'FOR SELECT' WHEN 'a' THEN 'FOR INSERT'
                         WHEN 'w' THEN 'FOR UPDATE' WHEN 'd' THEN 'FOR DELETE'
                         ELSE 'FOR ALL' END,
           'TO ' || (SELECT string_agg(name, ', ' ORDER BY name) FROM (
                         SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(role) END
                           FROM unnest(p.polroles) role) r (name)),
           'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
           'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  FROM pg_policy p
UNION ALL
SELECT 'pg_statistic_ext'::regclass, s.oid, 0, 'pg_class'::regclass, s.stxrelid, 0,
       s.stxnamespace, 'statistics', s.stxname, '',
       concat_ws(E'\n', pg_get_statisticsobjdef(s.oid),
           'STATISTICS ' || nullif(s.stxstattarget, -1))
  FROM pg_statistic_ext s
