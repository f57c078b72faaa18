-- created_at of one row, for tables without updated_at. Kept if given, never changed afterwards.
-- Why there is no SET search_path: see set_timestamps.sql.
CREATE OR REPLACE FUNCTION skinspire.set_created_at() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        NEW.created_at := OLD.created_at;
    ELSIF NEW.created_at IS NULL THEN
        NEW.created_at := pg_catalog.statement_timestamp();
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_created_at() FROM PUBLIC;
