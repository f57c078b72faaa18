-- The row history and its guard, made where they are missing or not as they should be.
CREATE TABLE IF NOT EXISTS skinspire.row_history (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    transaction_id bigint NOT NULL
                   DEFAULT pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8,
    actor          text NOT NULL,
    table_schema   text NOT NULL,
    table_name     text NOT NULL,
    key            jsonb NOT NULL,
    operation      text NOT NULL,
    old_values     jsonb,
    new_values     jsonb
);
CREATE INDEX IF NOT EXISTS row_history_of_a_row
    ON skinspire.row_history (table_schema, table_name, key);
-- FOR EACH STATEMENT, because TRUNCATE knows no rows; ALWAYS, because a session that plays replica
-- fires no others.
CREATE OR REPLACE TRIGGER skinspire_guard BEFORE UPDATE OR DELETE OR TRUNCATE
    ON skinspire.row_history FOR EACH STATEMENT EXECUTE FUNCTION skinspire.refuse_change();
ALTER TABLE skinspire.row_history ENABLE ALWAYS TRIGGER skinspire_guard;
-- The writer is whoever owns the function; and default privileges, which may have given rights to
-- others, were not meant for what patients' rows held.
DO $$
DECLARE command pg_catalog.text;
BEGIN
    FOR command IN
        SELECT 'ALTER TABLE skinspire.row_history OWNER TO '
               || pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(p.proowner))
          FROM pg_catalog.pg_proc p, pg_catalog.pg_class c
         WHERE p.oid = 'skinspire.record_history()'::pg_catalog.regprocedure
           AND c.oid = 'skinspire.row_history'::pg_catalog.regclass AND c.relowner <> p.proowner
        UNION ALL
        SELECT DISTINCT 'REVOKE ALL ON skinspire.row_history FROM '
               || CASE a.grantee WHEN 0 THEN 'PUBLIC'
                  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
          FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
         WHERE c.oid = 'skinspire.row_history'::pg_catalog.regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;
