-- After an account's row: a new lock goes into the history, and the account's sessions end where it
-- was disabled, locked by hand, or given another password, which is told there as well.
--
-- A lock by too many failures ends none: whoever guesses at a name must not throw its owner out.
-- Who changes a password may say which session stays (SET LOCAL skinspire.keep_session = an id), or
-- that 'all' do, where only the hash was renewed.
CREATE OR REPLACE FUNCTION skinspire.follow_account() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    stays CONSTANT text := coalesce(current_setting('skinspire.keep_session', true), '');
    reason text;
BEGIN
    IF NEW.locked_until > clock_timestamp() AND NEW.locked_until IS DISTINCT FROM OLD.locked_until
    THEN
        INSERT INTO public.accounts_accountevent (event, outcome, user_id, username)
        VALUES ('locked', 'done', NEW.id, NEW.username);
    END IF;
    IF OLD.is_active AND NOT NEW.is_active THEN
        reason := 'disabled';
    ELSIF NEW.locked_until > clock_timestamp() AND NEW.failed_sign_ins = OLD.failed_sign_ins
          AND NEW.locked_until IS DISTINCT FROM OLD.locked_until THEN
        reason := 'locked';
    ELSIF NEW.password <> OLD.password AND stays <> 'all' THEN
        reason := 'password_changed';
    END IF;
    IF reason IS NOT NULL THEN
        WITH ended AS (
            UPDATE public.accounts_session SET ended_at = clock_timestamp(), end_reason = reason
             WHERE user_id = NEW.id AND ended_at IS NULL
               AND (reason <> 'password_changed' OR id::text <> stays)
            RETURNING id, door, end_reason)
        INSERT INTO public.accounts_accountevent
               (event, outcome, user_id, username, session, door, detail)
        SELECT 'session_ended', 'done', NEW.id, NEW.username, id, door, end_reason FROM ended;
    END IF;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.follow_account() FROM PUBLIC;
