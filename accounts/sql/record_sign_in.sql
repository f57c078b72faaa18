-- Before a row of the account history: who it is about, and what a sign-in does to the account.
--
-- A failure counts, a success sets the count back. Both change the account's own row, so that of two
-- at once the second waits and counts on. A success while the account is locked is history like
-- everything that happened, but opens no lock.
CREATE OR REPLACE FUNCTION skinspire.record_sign_in() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF NEW.user_id IS NULL AND NEW.username <> '' THEN
        SELECT id INTO NEW.user_id FROM public.accounts_user WHERE username = NEW.username;
    ELSIF NEW.user_id IS NOT NULL AND NEW.username = '' THEN
        SELECT username INTO NEW.username FROM public.accounts_user WHERE id = NEW.user_id;
        NEW.username := coalesce(NEW.username, '');
    END IF;
    -- Who acted, also where nobody has installed the triggers that tell it of every table.
    NEW.created_by := coalesce(NEW.created_by, nullif(current_setting('skinspire.actor', true), ''));
    IF NEW.event = 'sign_in_failed' THEN
        UPDATE public.accounts_user SET failed_sign_ins = failed_sign_ins + 1
         WHERE id = NEW.user_id;
    ELSIF NEW.event = 'signed_in' THEN
        UPDATE public.accounts_user SET failed_sign_ins = 0
         WHERE id = NEW.user_id AND failed_sign_ins > 0
           AND (locked_until IS NULL OR locked_until <= clock_timestamp());
    END IF;
    RETURN NEW;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.record_sign_in() FROM PUBLIC;
