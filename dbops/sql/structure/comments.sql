-- Comments of whatever is known by then; what an extension says of itself is its own.
SELECT d.classoid, d.objoid, d.objsubid, d.description FROM pg_description d
 WHERE (d.objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass)
   AND d.classoid <> 'pg_extension'::regclass
