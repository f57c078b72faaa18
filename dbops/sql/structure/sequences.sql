-- Sequences, not their values. One that belongs to a column comes and goes with it.
SELECT 'pg_class'::regclass::oid, c.oid, 0, coalesce(d.refclassid, 0), coalesce(d.refobjid, 0),
       coalesce(d.refobjsubid, 0), c.relnamespace, 'sequence', c.relname, '',
       concat_ws(E'\n',
           CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
           'AS ' || format_type(s.seqtypid, NULL),
           'START ' || s.seqstart, 'INCREMENT ' || s.seqincrement, 'MINVALUE ' || s.seqmin,
           'MAXVALUE ' || s.seqmax, 'CACHE ' || s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' END,
           'OWNED BY ' || d.refobjid::regclass || '.' || quote_ident(a.attname))
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
   AND d.objsubid = 0 AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
   AND d.deptype IN ('a', 'i')
  LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
 WHERE c.oid >= 16384 AND c.relpersistence <> 't'
