-- Before anything but an INSERT: the account history is only added to.
--
-- What has to go after its time (addresses are personal data) goes by DELETE or TRUNCATE in a
-- transaction that says so: SET LOCAL skinspire.prune_history = 'on'. Nothing is ever rewritten.
CREATE OR REPLACE FUNCTION skinspire.keep_history() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF TG_OP = 'UPDATE' OR current_setting('skinspire.prune_history', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION '%.% is only added to: no %', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
              USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.keep_history() FROM PUBLIC;
