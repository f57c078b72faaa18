-- created_by of one row, for tables without updated_by. Kept if given, never changed afterwards.
-- Argument: the column's length in characters, '' where unlimited. More in set_actors.sql.
CREATE OR REPLACE FUNCTION skinspire.set_created_by() RETURNS pg_catalog.trigger
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
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_created_by() FROM PUBLIC;
