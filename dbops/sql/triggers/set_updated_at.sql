-- updated_at of one row, for tables without created_at. Kept if an INSERT gives it, else now.
-- Why there is no SET search_path and no now(): see set_timestamps.sql.
CREATE OR REPLACE FUNCTION skinspire.set_updated_at() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
BEGIN
    -- IS NULL first: a bulk insert then never evaluates the rest.
    IF NEW.updated_at IS NULL OR TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        NEW.updated_at := pg_catalog.statement_timestamp();
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.set_updated_at() FROM PUBLIC;
