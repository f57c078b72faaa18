-- Types that stand alone; those that come with a table or another type are left out.
SELECT 'pg_type'::regclass::oid, t.oid, 0, 0, 0, 0, t.typnamespace,
       CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, t.typname, '',
       CASE t.typtype
       WHEN 'e' THEN concat_ws(E'\n', 'ENUM', (
           SELECT string_agg(quote_literal(enumlabel), E'\n' ORDER BY enumsortorder)
             FROM pg_enum WHERE enumtypid = t.oid))
       WHEN 'd' THEN concat_ws(' ',
           format_type(t.typbasetype, t.typtypmod),
           CASE WHEN t.typcollation <> b.typcollation
                THEN 'COLLATE ' || t.typcollation::regcollation END,
           'DEFAULT ' || pg_get_expr(t.typdefaultbin, 0),
           CASE WHEN t.typnotnull THEN 'NOT NULL' END)
       WHEN 'c' THEN concat_ws(E'\n', 'COMPOSITE', (
           SELECT string_agg(
                      concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                          CASE WHEN a.attcollation <> at.typcollation
                               THEN 'COLLATE ' || a.attcollation::regcollation END),
                      E'\n' ORDER BY a.attnum)
             FROM pg_attribute a JOIN pg_type at ON at.oid = a.atttypid
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
       WHEN 'r' THEN (
           SELECT concat_ws(E'\n', 'RANGE OF ' || format_type(r.rngsubtype, NULL),
                      'MULTIRANGE ' || format_type(r.rngmultitypid, NULL),
                      'OPERATOR CLASS ' || o.opcname,
                      'COLLATE ' || nullif(r.rngcollation, 0)::regcollation,
                      'CANONICAL ' || nullif(r.rngcanonical::oid, 0)::regproc,
                      'SUBTYPE_DIFF ' || nullif(r.rngsubdiff::oid, 0)::regproc)
             FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc WHERE r.rngtypid = t.oid)
       ELSE format(E'BASE TYPE\nINPUT %s\nOUTPUT %s', t.typinput, t.typoutput) END
  FROM pg_type t LEFT JOIN pg_type b ON b.oid = t.typbasetype
  LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE t.oid >= 16384
   AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'b' AND t.typelem = 0 OR c.relkind = 'c')
