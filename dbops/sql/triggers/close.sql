-- Functions in schema skinspire that PUBLIC may execute, taken from it.
DO $$
DECLARE
    command pg_catalog.text;
BEGIN
    FOR command IN
        SELECT 'REVOKE ALL ON FUNCTION ' || p.oid::pg_catalog.regprocedure || ' FROM PUBLIC'
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = to_regnamespace('skinspire') AND p.prokind = 'f'
           AND has_function_privilege('public', p.oid, 'EXECUTE')
           AND pg_has_role(p.proowner, 'USAGE')
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;
