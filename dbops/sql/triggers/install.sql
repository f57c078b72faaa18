-- The body of the DO block that installs: one round trip for all tables. The placeholders become
-- an array of commands and one of the table that each is about.
--
-- The handler is the only way to learn which table a lock timeout was about, because the server
-- does not say; it costs one savepoint for the whole block.
DECLARE command text; label text; advice text;
BEGIN
    FOR command, label IN SELECT * FROM unnest({commands}::text[], {labels}::text[]) LOOP
        EXECUTE command;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS advice = PG_EXCEPTION_HINT;
    RAISE EXCEPTION
          USING MESSAGE = SQLERRM, ERRCODE = SQLSTATE, HINT = advice, TABLE = label;
END
