-- Who may do what with an object, where it is not what objects of its kind begin with. The owner is
-- told as OWNER, whatever the role is called. MAINTAIN, which PostgreSQL 17 added to what ALL gives, is
-- told only beside less than all the others: what GRANT ALL gave before must not differ from it.
WITH object (class, id, part, kind, acl, owner) AS (
    SELECT 'pg_class'::regclass::oid, oid, 0, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char",
           relacl, relowner FROM pg_class
     WHERE relacl IS NOT NULL AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
    UNION ALL
    SELECT 'pg_class'::regclass, attrelid, attnum, 'c', attacl, c.relowner
      FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attacl IS NOT NULL
    UNION ALL SELECT 'pg_proc'::regclass, oid, 0, 'f', proacl, proowner FROM pg_proc
               WHERE proacl IS NOT NULL
    UNION ALL SELECT 'pg_type'::regclass, oid, 0, 'T', typacl, typowner FROM pg_type
               WHERE typacl IS NOT NULL
    UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, 'n', nspacl, nspowner FROM pg_namespace
               WHERE nspacl IS NOT NULL
),
granted AS (
    SELECT o.class, o.id, o.part, v.now,
           CASE a.grantee WHEN 0 THEN 'PUBLIC' WHEN o.owner THEN 'OWNER'
                          ELSE a.grantee::regrole::text END AS grantee,
           a.privilege_type || CASE WHEN a.is_grantable AND a.grantee <> o.owner
                                    THEN ' WITH GRANT OPTION' ELSE '' END AS privilege
      FROM object o, (VALUES (true), (false)) v (now),
           aclexplode(CASE WHEN v.now THEN o.acl ELSE acldefault(o.kind, o.owner) END) a
     WHERE o.id >= 16384 OR o.class = 'pg_namespace'::regclass
),
line AS (
    SELECT class, id, part, now, grantee, CASE
           WHEN count(*) FILTER (WHERE privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE',
                                 'TRUNCATE', 'REFERENCES', 'TRIGGER')) = 7
           THEN 'ALL' ELSE string_agg(DISTINCT privilege, ', ') END AS privileges
      FROM granted GROUP BY 1, 2, 3, 4, 5
),
told AS (
    SELECT o.class, o.id, o.part, v.now, coalesce((
               SELECT string_agg(l.grantee || ': ' || l.privileges, E'\n'
                                 ORDER BY l.grantee COLLATE "C")
                 FROM line l
                WHERE (l.class, l.id, l.part, l.now) = (o.class, o.id, o.part, v.now)), 'nobody') AS text
      FROM object o, (VALUES (true), (false)) v (now)
)
SELECT n.class, n.id, n.part, n.text
  FROM told n JOIN told d USING (class, id, part)
 WHERE n.now AND NOT d.now AND n.text <> d.text
