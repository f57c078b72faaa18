-- Settings of this database (ALTER DATABASE … SET), also those for one role in it; the owner's are
-- told as such, whatever the role is called. Of what may be a secret, only a digest.
SELECT split_part(s, '=', 1)
           || CASE r.setrole WHEN 0 THEN '' WHEN d.datdba THEN ' for the owner'
                             ELSE ' for ' || r.setrole::regrole::text END,
       CASE WHEN split_part(s, '=', 1) ~* 'secret|passw|token|key|credential'
            THEN 'sha256 ' || left(encode(sha256(convert_to(s, 'UTF8')), 'hex'), 12)
            ELSE substr(s, strpos(s, '=') + 1) END
  FROM pg_db_role_setting r JOIN pg_database d ON d.oid = r.setdatabase, unnest(r.setconfig) s
 WHERE d.datname = current_database()
