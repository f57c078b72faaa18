-- The body of the event trigger's function: of the tables that a command made or altered, those that
-- lack triggers of ours get them. It acts as the superuser who made it, since whoever makes a table
-- need have no right to our functions; what it executes is quoted by the server.
DECLARE
    touched oid[];
    command text;
BEGIN
    SELECT array_agg(d.objid) INTO touched FROM pg_event_trigger_ddl_commands() d
     WHERE d.classid = 'pg_class'::regclass AND d.object_type = 'table' AND NOT d.in_extension;
    IF touched IS NULL THEN
        RETURN;
    END IF;
    FOR command IN
        SELECT s.command FROM (
{survey}
        ) AS s (schema, name, trigger, state, function, arguments, comment, fact, command)
         WHERE s.state IN ('missing', 'changed')
    LOOP
        EXECUTE command;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    -- Whoever makes a table must not fail on our account; verify_triggers will tell.
    RAISE WARNING 'Skinspire could not attach its triggers: %', SQLERRM
          USING HINT = 'python manage.py apply_triggers';
END
