-- updated_by of one row, where it refers to the table of users and created_by does not, or is not
-- there. An INSERT keeps what is given. What is taken away stays away, and what another trigger
-- writes is left alone: more in set_actor_ids.sql.
CREATE OR REPLACE FUNCTION skinspire.set_updated_by_id() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
DECLARE
    actor pg_catalog.text := pg_catalog.current_setting('skinspire.actor_id', true);
BEGIN
    IF actor IS NULL OR actor OPERATOR(pg_catalog.=) '' THEN
        RETURN NEW;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        IF NEW.updated_by IS NULL THEN
            NEW.updated_by := actor;
        END IF;
    ELSIF NEW.updated_by IS NULL THEN
        IF OLD.updated_by IS NULL AND pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) 1 THEN
            NEW.updated_by := actor;
        END IF;
    ELSIF pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.=) 1 OR (
          OLD.updated_by IS NOT NULL
          AND NEW.updated_by OPERATOR(pg_catalog.=) OLD.updated_by) THEN
        NEW.updated_by := actor;
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_updated_by_id() FROM PUBLIC;
