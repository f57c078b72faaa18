-- Before a session's row: none begins for an account that is locked or inactive, and one that is over
-- stays as it is. An UPDATE of it changes no row, which tells whoever wanted to move last_seen_at
-- that there is nothing to move; the one thing left to do is to end it, as of when it expired.
CREATE OR REPLACE FUNCTION skinspire.guard_session() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    account record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Elsewhere the sessions that others begin at the same time would not be seen and counted.
        IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
            RAISE EXCEPTION 'A session begins only in a transaction that is READ COMMITTED'
                  USING ERRCODE = 'feature_not_supported';
        END IF;
        -- The lock makes those who begin sessions for one account wait for each other.
        SELECT is_active, locked_until INTO account FROM public.accounts_user
         WHERE id = NEW.user_id FOR NO KEY UPDATE;
        IF account.is_active = false THEN
            RAISE EXCEPTION 'Account % is not active: no session begins for it', NEW.user_id
                  USING ERRCODE = 'check_violation';
        ELSIF account.locked_until > clock_timestamp() THEN
            RAISE EXCEPTION 'Account % is locked: no session begins for it', NEW.user_id
                  USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id OR NEW.user_id <> OLD.user_id THEN
        RAISE EXCEPTION 'A session is not handed to another account'
              USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.ended_at IS NULL AND OLD.expires_at <= clock_timestamp() AND NEW.ended_at IS NOT NULL THEN
        NEW := OLD;
        NEW.ended_at := OLD.expires_at;
        NEW.end_reason := 'expired';
    ELSIF OLD.ended_at IS NOT NULL OR OLD.expires_at <= clock_timestamp() THEN
        RETURN NULL;
    ELSIF NEW.ended_at IS NOT NULL AND NEW.end_reason = '' THEN
        NEW.end_reason := 'ended';
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.guard_session() FROM PUBLIC;
