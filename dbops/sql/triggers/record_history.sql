-- What became of one row, written to skinspire.row_history: its key, and of the columns that
-- changed what they held before and after. An UPDATE that changes nothing leaves nothing.
--
-- SECURITY DEFINER, so that whoever may write the table needs no right in schema skinspire, and
-- cannot write the history but by writing rows. What it computes it computes as its owner, casts of
-- the table's own types included, wherefore only tables of that owner get the trigger: survey.sql.
-- Its price is far above that of SET search_path, so here it has one.
--
-- Arguments: the names of the key's columns, a JSON array; a regular expression of the columns that
-- are kept out; of a partitioned table, its schema and name, because the trigger fires on a
-- partition.
CREATE OR REPLACE FUNCTION skinspire.record_history() RETURNS pg_catalog.trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    actor text := current_setting('skinspire.actor', true);
    before jsonb;
    after jsonb;
    was jsonb;
    became jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        before := to_jsonb(OLD);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        after := to_jsonb(NEW);
    END IF;
    SELECT jsonb_object_agg(o.key, o.value) FILTER (WHERE o.key IS NOT NULL),
           jsonb_object_agg(n.key, n.value) FILTER (WHERE n.key IS NOT NULL)
      INTO was, became
      FROM jsonb_each(before) o FULL JOIN jsonb_each(after) n ON n.key = o.key
     WHERE o.value IS DISTINCT FROM n.value AND coalesce(o.key, n.key) !~* TG_ARGV[1];
    IF TG_OP = 'UPDATE' AND was IS NULL THEN
        RETURN NULL;
    END IF;
    IF actor IS NULL OR actor = '' THEN
        actor := SESSION_USER;
    END IF;
    INSERT INTO skinspire.row_history
           (table_schema, table_name, key, operation, old_values, new_values, actor)
    SELECT coalesce(TG_ARGV[2], TG_TABLE_SCHEMA), coalesce(TG_ARGV[3], TG_TABLE_NAME),
           jsonb_object_agg(k.name, coalesce(before, after) -> k.name), TG_OP, was, became, actor
      FROM jsonb_array_elements_text(TG_ARGV[0]::jsonb) k (name);
    RETURN NULL;
END
$function$;

REVOKE ALL ON FUNCTION skinspire.record_history() FROM PUBLIC;
