-- Each of our functions, with what it should bear as its comment and whether it is as this version
-- makes it: by the digest of its file, by what the server holds of it, and not open to PUBLIC.
--
-- Given: {function: digest of its file} as jsonb.
SELECT wanted.name, made.fingerprint,
       'skinspire:' || wanted.source || ' ' || made.fingerprint AS comment,
       coalesce(made.comment = 'skinspire:' || wanted.source || ' ' || made.fingerprint
                AND NOT made.public, false) AS current
  FROM jsonb_each_text(%s::jsonb) AS wanted (name, source)
  LEFT JOIN (
      SELECT p.proname, obj_description(p.oid, 'pg_proc') AS comment,
             has_function_privilege('public', p.oid, 'EXECUTE') AS public,
             encode(sha256(convert_to(jsonb_build_array(
                 p.prosrc, p.prosecdef, p.proconfig, l.lanname
             )::text, 'UTF8')), 'hex') AS fingerprint
        FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
       WHERE p.pronamespace = to_regnamespace('skinspire') AND p.pronargs = 0
  ) made ON made.proname = wanted.name
 ORDER BY wanted.name
