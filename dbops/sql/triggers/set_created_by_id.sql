-- created_by of one row, where it refers to the table of users and updated_by does not, or is not
-- there. Kept if given, and never changed afterwards but taken away. More in set_actor_ids.sql.
CREATE OR REPLACE FUNCTION skinspire.set_created_by_id() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
DECLARE
    actor pg_catalog.text := pg_catalog.current_setting('skinspire.actor_id', true);
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        IF NEW.created_by IS NULL AND actor OPERATOR(pg_catalog.<>) '' THEN
            NEW.created_by := actor;
        END IF;
    ELSIF NEW.created_by IS NOT NULL
          AND pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) 1 THEN
        NEW.created_by := OLD.created_by;
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_created_by_id() FROM PUBLIC;
