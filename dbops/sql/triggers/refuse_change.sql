-- What is written to the row history stays as it was written. Whoever owns the table can still drop
-- it, or this guard: it keeps from mistakes and from those who were merely given rights.
CREATE OR REPLACE FUNCTION skinspire.refuse_change() RETURNS pg_catalog.trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE EXCEPTION '%.% only grows: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
          USING ERRCODE = 'insufficient_privilege';
END
$function$;

REVOKE ALL ON FUNCTION skinspire.refuse_change() FROM PUBLIC;
