-- After an account's row: a new lock goes into the history, a disabled account's sessions end.
CREATE OR REPLACE FUNCTION skinspire.follow_account() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF NEW.locked_until > clock_timestamp() AND NEW.locked_until IS DISTINCT FROM OLD.locked_until
    THEN
        INSERT INTO public.accounts_accountevent (event, outcome, user_id, username)
        VALUES ('locked', 'done', NEW.id, NEW.username);
    END IF;
    IF OLD.is_active AND NOT NEW.is_active THEN
        UPDATE public.accounts_session SET ended_at = clock_timestamp(), end_reason = 'disabled'
         WHERE user_id = NEW.id AND ended_at IS NULL;
    END IF;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.follow_account() FROM PUBLIC;
