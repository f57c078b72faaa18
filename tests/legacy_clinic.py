"""A database as the earlier system left them: fifty tables of a clinic with its triggers, columns
of mixed types, functions that look columns up for every row."""

from __future__ import annotations

from dbops.postgres.connection import Connection, execute

_FUNCTIONS = """
CREATE EXTENSION IF NOT EXISTS plpgsql;
CREATE FUNCTION public.update_timestamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND NEW.created_at IS NULL THEN NEW.created_at := CURRENT_TIMESTAMP; END IF;
    NEW.updated_at := CURRENT_TIMESTAMP;
    RETURN NEW;
END $$;
CREATE FUNCTION public.track_user_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    who text := coalesce(nullif(current_setting('app.current_user', true), ''), session_user);
    room integer;
BEGIN
    SELECT character_maximum_length INTO room FROM information_schema.columns
     WHERE table_schema = TG_TABLE_SCHEMA AND table_name = TG_TABLE_NAME
       AND column_name = 'updated_by';
    IF TG_OP = 'INSERT' AND NEW.created_by IS NULL THEN NEW.created_by := left(who, room); END IF;
    NEW.updated_by := left(who, room);
    RETURN NEW;
END $$;
CREATE FUNCTION public.hash_password() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.password_hash !~ '^md5' THEN
        NEW.password_hash := 'md5' || md5(NEW.password_hash);
    END IF;
    RETURN NEW;
END $$;
"""
TABLES = 50
STATES = {7: "DISABLE", 8: "ENABLE ALWAYS", 9: "ENABLE REPLICA"}
"""Tables whose trigger of timestamps somebody had put into another state."""
ODD = {11: "numeric", 12: "integer"}
"""Tables whose actor is of a type that ours does not serve."""


def _table(number: int) -> str:
    moment = "timestamp" if number % 3 == 0 else "timestamptz"
    length = 15 if number % 2 else 50
    actor = ODD.get(number, f"varchar({length})")
    name = "users" if number == 1 else f"part_{number:02}"
    more = "password_hash text," if number == 1 else ""
    statements = [
        f"""CREATE TABLE public.{name} (id integer PRIMARY KEY, note text, {more}
            created_at {moment}, updated_at {moment}, created_by {actor}, updated_by {actor})""",
        f"""CREATE TRIGGER update_timestamp BEFORE INSERT OR UPDATE ON public.{name}
            FOR EACH ROW EXECUTE FUNCTION public.update_timestamp()""",
        f"INSERT INTO public.{name} (id, note) VALUES (1, 'a note of {name}')",
        f"""CREATE TRIGGER track_user_changes BEFORE INSERT OR UPDATE ON public.{name}
            FOR EACH ROW EXECUTE FUNCTION public.track_user_changes()""",
    ]
    if number == 1:
        statements.append(
            "CREATE TRIGGER hash_password BEFORE INSERT OR UPDATE OF password_hash ON public.users"
            " FOR EACH ROW EXECUTE FUNCTION public.hash_password()"
        )
    if number in STATES:
        statements.append(f"ALTER TABLE public.{name} {STATES[number]} TRIGGER update_timestamp")
    if number == 10:
        statements.append(f"COMMENT ON TRIGGER update_timestamp ON public.{name} IS 'it''s old'")
    return ";\n".join(statements)


def make_legacy_clinic(connection: Connection) -> None:
    """Fifty tables, 101 triggers, a row in each table."""
    execute(connection, _FUNCTIONS + ";\n".join(_table(it) for it in range(1, TABLES + 1)))
