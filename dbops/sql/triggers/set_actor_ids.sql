-- created_by and updated_by of one row, where both refer to the table of users.
--
-- The acting user's key is the setting skinspire.actor_id; where there is none, as in commands, the
-- row keeps what it was given. INSERT keeps a value that is given; UPDATE replaces updated_by, and
-- leaves created_by as it was.
--
-- A reference that is taken away stays away: a user is deleted by setting what refers to it to NULL,
-- and putting it back would leave a reference to nobody. Within another trigger, such as the server's
-- own for ON DELETE and ON UPDATE, what that trigger writes is left alone, for the same reason.
--
-- Why there is no SET search_path: see set_timestamps.sql.
CREATE OR REPLACE FUNCTION skinspire.set_actor_ids() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
DECLARE
    actor pg_catalog.text := pg_catalog.current_setting('skinspire.actor_id', true);
BEGIN
    -- Where a transaction had set it and is over, the setting is empty, not absent.
    IF actor OPERATOR(pg_catalog.=) '' THEN
        actor := NULL;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        IF NEW.created_by IS NULL THEN
            NEW.created_by := actor;
        END IF;
        IF NEW.updated_by IS NULL THEN
            NEW.updated_by := actor;
        END IF;
        RETURN NEW;
    END IF;
    IF pg_catalog.pg_trigger_depth() OPERATOR(pg_catalog.>) 1
       AND (NEW.created_by IS NULL OR OLD.created_by IS NULL
            OR NEW.created_by OPERATOR(pg_catalog.<>) OLD.created_by
            OR NEW.updated_by IS NULL OR OLD.updated_by IS NULL
            OR NEW.updated_by OPERATOR(pg_catalog.<>) OLD.updated_by) THEN
        RETURN NEW;
    END IF;
    IF NEW.created_by IS NOT NULL THEN
        NEW.created_by := OLD.created_by;
    END IF;
    IF actor IS NOT NULL AND (NEW.updated_by IS NOT NULL OR OLD.updated_by IS NULL) THEN
        NEW.updated_by := actor;
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_actor_ids() FROM PUBLIC;
