-- Before an account's row: lock it when its failed sign-ins reach the limit, whoever counts them.
--
-- A lock ends at its time, however often somebody tries meanwhile: guessing must not keep the owner
-- out for good. The first failure after it begins a new count. Setting the count to 0, or locked_until
-- to NULL, unlocks.
--
-- Arguments: how many failures lock (0: none do), and for how many seconds.
CREATE OR REPLACE FUNCTION skinspire.lock_account() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    most CONSTANT int := TG_ARGV[0];
    until CONSTANT timestamptz := clock_timestamp() + make_interval(secs => TG_ARGV[1]::int);
    counted int := 0;
    locked timestamptz;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        counted := OLD.failed_sign_ins;
        locked := OLD.locked_until;
    END IF;
    IF NEW.failed_sign_ins > counted THEN
        IF locked <= clock_timestamp() AND NEW.locked_until IS NOT DISTINCT FROM locked THEN
            NEW.failed_sign_ins := NEW.failed_sign_ins - counted;
            NEW.locked_until := NULL;
        END IF;
        IF most > 0 AND NEW.failed_sign_ins >= most AND NEW.locked_until IS NULL THEN
            NEW.locked_until := until;
        END IF;
    ELSIF NEW.failed_sign_ins = 0 AND counted > 0 THEN
        NEW.locked_until := NULL;
    ELSIF locked IS NOT NULL AND NEW.locked_until IS NULL THEN
        NEW.failed_sign_ins := 0;
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.lock_account() FROM PUBLIC;
