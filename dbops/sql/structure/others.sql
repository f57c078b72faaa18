-- What belongs to the database as a whole, and the rarer kinds: of operators, operator classes,
-- conversions, languages and the like it is told whether they are there and, where it is one line,
-- what they are. Options of foreign servers name hosts and differ rightly.
SELECT o.class, o.id, 0, 0, 0, 0, o.namespace, i.type, NULL, i.identity, o.definition
  FROM (
    SELECT 'pg_event_trigger'::regclass::oid, e.oid, 0::oid,
           concat_ws(E'\n', 'ON ' || e.evtevent,
               'WHEN TAG IN (' || array_to_string(e.evttags, ', ') || ')',
               'EXECUTE FUNCTION ' || e.evtfoid::regproc,
               CASE e.evtenabled WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'ENABLED ON REPLICA'
                                 WHEN 'A' THEN 'ENABLED ALWAYS' END)
      FROM pg_event_trigger e
    UNION ALL SELECT 'pg_publication'::regclass, p.oid, 0,
           concat_ws(E'\n', CASE WHEN p.puballtables THEN 'FOR ALL TABLES' END,
               (SELECT string_agg('TABLES IN SCHEMA ' || n.nspname, E'\n' ORDER BY n.nspname)
                  FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid
                 WHERE s.pnpubid = p.oid),
               (SELECT string_agg(concat_ws(' ', 'TABLE ' || r.prrelid::regclass,
                           '(' || (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname)
                                     FROM pg_attribute WHERE attrelid = r.prrelid
                                      AND attnum = ANY (r.prattrs)) || ')',
                           'WHERE ' || pg_get_expr(r.prqual, r.prrelid)),
                           E'\n' ORDER BY r.prrelid::regclass::text COLLATE "C")
                  FROM pg_publication_rel r WHERE r.prpubid = p.oid),
               'PUBLISH ' || concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END,
                   CASE WHEN p.pubupdate THEN 'update' END,
                   CASE WHEN p.pubdelete THEN 'delete' END,
                   CASE WHEN p.pubtruncate THEN 'truncate' END),
               CASE WHEN p.pubviaroot THEN 'VIA PARTITION ROOT' END,
               -- Since PostgreSQL 18.
               'GENERATED COLUMNS ' || nullif(to_jsonb(p) ->> 'pubgencols', 'n'))
      FROM pg_publication p
    UNION ALL SELECT 'pg_collation'::regclass, c.oid, c.collnamespace,
           concat_ws(', ', 'provider ' || c.collprovider::text, c.collcollate, c.collctype,
               coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale'),
               to_jsonb(c) ->> 'collicurules',
               CASE WHEN NOT c.collisdeterministic THEN 'not deterministic' END)
      FROM pg_collation c
    UNION ALL SELECT 'pg_ts_config'::regclass, c.oid, c.cfgnamespace,
           concat_ws(E'\n', 'PARSER ' || p.prsname,
               (SELECT string_agg(format('%s WITH %s', y.alias, m.mapdict::regdictionary),
                                  E'\n' ORDER BY m.maptokentype, m.mapseqno)
                  FROM pg_ts_config_map m JOIN ts_token_type(c.cfgparser) y
                    ON y.tokid = m.maptokentype WHERE m.mapcfg = c.oid))
      FROM pg_ts_config c JOIN pg_ts_parser p ON p.oid = c.cfgparser WHERE c.oid >= 16384
    UNION ALL SELECT 'pg_ts_dict'::regclass, d.oid, d.dictnamespace,
           concat_ws(E'\n', 'TEMPLATE ' || t.tmplname, d.dictinitoption)
      FROM pg_ts_dict d JOIN pg_ts_template t ON t.oid = d.dicttemplate
    UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace, '' FROM pg_ts_parser
    UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace, '' FROM pg_ts_template
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace,
           concat_ws(', ', 'FUNCTION ' || oprcode, 'COMMUTATOR ' || nullif(oprcom, 0)::regoperator,
               'NEGATOR ' || nullif(oprnegate, 0)::regoperator,
               CASE WHEN oprcanhash THEN 'HASHES' END, CASE WHEN oprcanmerge THEN 'MERGES' END)
      FROM pg_operator WHERE oid >= 16384
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace,
           CASE WHEN opcdefault THEN 'DEFAULT' ELSE '' END FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace, '' FROM pg_opfamily
    UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace,
           'FUNCTION ' || conproc FROM pg_conversion
    UNION ALL SELECT 'pg_cast'::regclass, oid, 0,
           concat_ws(', ', 'method ' || castmethod::text, 'context ' || castcontext::text,
               nullif(castfunc, 0)::regprocedure) FROM pg_cast WHERE oid >= 16384
    UNION ALL SELECT 'pg_transform'::regclass, oid, 0, '' FROM pg_transform
    UNION ALL SELECT 'pg_language'::regclass, oid, 0, '' FROM pg_language
    UNION ALL SELECT 'pg_am'::regclass, oid, 0, 'HANDLER ' || amhandler FROM pg_am
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, '' FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, s.oid, 0,
           concat_ws(', ', 'WRAPPER ' || w.fdwname, 'TYPE ' || s.srvtype,
                     'VERSION ' || s.srvversion)
      FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
  ) o (class, id, namespace, definition), pg_identify_object(o.class, o.id, 0) i
 WHERE o.id >= 16384
