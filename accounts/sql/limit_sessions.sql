-- After a session has begun: where its account has more than the limit, the oldest end, and the history
-- tells so. That all who begin one for the same account come here one after another is guard_session's
-- doing.
--
-- Argument: how many an account may have (0: any number).
CREATE OR REPLACE FUNCTION skinspire.limit_sessions() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF TG_ARGV[0]::int > 0 THEN
        WITH ended AS (
            UPDATE public.accounts_session SET ended_at = clock_timestamp(), end_reason = 'limit'
             WHERE id IN (SELECT id FROM public.accounts_session
                           WHERE user_id = NEW.user_id AND ended_at IS NULL
                             AND expires_at > clock_timestamp()
                           ORDER BY created_at DESC, id OFFSET TG_ARGV[0]::int)
            RETURNING id, door)
        INSERT INTO public.accounts_accountevent (event, outcome, user_id, session, door, detail)
        SELECT 'session_ended', 'done', NEW.user_id, id, door, 'limit' FROM ended;
    END IF;
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.limit_sessions() FROM PUBLIC;
