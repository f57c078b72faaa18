-- created_at and updated_at of one row.
--
-- INSERT keeps a value that is given and fills one that is not. UPDATE always moves updated_at and
-- never created_at: when a row came into being does not change.
--
-- statement_timestamp(), because now() stands still for a whole transaction: a row inserted and
-- later updated in one transaction would show the same instant twice.
--
-- No SET search_path: entering and leaving it costs 0.10 to 0.15 microseconds a row, on top of the
-- 0.6 to 0.7 that the trigger costs. The body needs none, because nothing in it is looked up on the
-- path: functions, operators and types bear their schema, and IS NULL, OR and := are grammar.
CREATE OR REPLACE FUNCTION skinspire.set_timestamps() RETURNS pg_catalog.trigger
LANGUAGE plpgsql
AS $function$
BEGIN
    IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN
        NEW.created_at := OLD.created_at;
        NEW.updated_at := pg_catalog.statement_timestamp();
        RETURN NEW;
    END IF;
    IF NEW.created_at IS NULL THEN
        NEW.created_at := pg_catalog.statement_timestamp();
    END IF;
    IF NEW.updated_at IS NULL THEN
        NEW.updated_at := pg_catalog.statement_timestamp();
    END IF;
    RETURN NEW;
END
$function$;

-- A trigger fires without this right; only whoever creates triggers needs it.
REVOKE ALL ON FUNCTION skinspire.set_timestamps() FROM PUBLIC;
