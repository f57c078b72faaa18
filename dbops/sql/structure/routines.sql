-- Functions, procedures and aggregates, by the types of their arguments.
SELECT 'pg_proc'::regclass::oid, p.oid, 0, 0, 0, 0, p.pronamespace,
       CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
       p.proname, '(' || oidvectortypes(p.proargtypes) || ')',
       CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid)
       ELSE jsonb_pretty(to_jsonb(a) - 'aggfnoid' || jsonb_build_object(
                'arguments', pg_get_function_arguments(p.oid), 'parallel', p.proparallel,
                'aggtranstype', format_type(a.aggtranstype, NULL),
                'aggmtranstype', format_type(nullif(a.aggmtranstype, 0), NULL),
                'aggsortop', nullif(a.aggsortop, 0)::regoperator)) END
  FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
 WHERE p.oid >= 16384
