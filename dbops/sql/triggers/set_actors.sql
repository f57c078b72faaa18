-- created_by and updated_by of one row.
--
-- The actor is the setting skinspire.actor, else the role that connected. It says who acted as far
-- as the application tells; any session can set it, so it records and does not authenticate.
-- INSERT keeps a value that is given; UPDATE always replaces updated_by and never created_by.
--
-- Arguments: the length of created_by and that of updated_by in characters, '' where unlimited.
-- They are passed in when the trigger is made, so that no row has to look its columns up.
-- Why there is no SET search_path: see set_timestamps.sql.
CREATE OR REPLACE FUNCTION skinspire.set_actors() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
DECLARE
    actor pg_catalog.text := pg_catalog.current_setting('skinspire.actor', true);
BEGIN
    -- Where a transaction had set it and is over, the setting is empty, not absent.
    IF actor IS NULL OR actor OPERATOR(pg_catalog.=) '' THEN
        actor := SESSION_USER;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        NEW.created_by := OLD.created_by;
    ELSIF NEW.created_by IS NULL THEN
        NEW.created_by := CASE
            WHEN TG_ARGV[0] OPERATOR(pg_catalog.=) '' THEN actor
            ELSE pg_catalog."left"(actor, TG_ARGV[0]::pg_catalog.int4)
        END;
    END IF;
    IF NEW.updated_by IS NULL OR TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        NEW.updated_by := CASE
            WHEN TG_ARGV[1] OPERATOR(pg_catalog.=) '' THEN actor
            ELSE pg_catalog."left"(actor, TG_ARGV[1]::pg_catalog.int4)
        END;
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_actors() FROM PUBLIC;
