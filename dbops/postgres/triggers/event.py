"""The event trigger that gives tables made later their triggers at once. Only a superuser may make
one; where the connecting role is none, it is left out and told."""

from __future__ import annotations

from psycopg2.extensions import AsIs

from dbops.postgres.connection import Connection, fetch_row, fetch_value
from dbops.postgres.triggers.survey import file, given
from dbops.postgres.triggers.wishes import Wishes

NAME = "skinspire_attach"
LABEL = f"event trigger: {NAME}"
REFUSAL = f"{LABEL} is left out: only a superuser may make one"
_STATE = """
SELECT p.prosrc, p.prosecdef, e.evtenabled <> 'D' FROM pg_event_trigger e
  JOIN pg_proc p ON p.oid = e.evtfoid WHERE e.evtname = %s
"""
_MAKE = """
CREATE OR REPLACE FUNCTION skinspire.attach_triggers() RETURNS pg_catalog.event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS {body};
REVOKE ALL ON FUNCTION skinspire.attach_triggers() FROM PUBLIC;
DROP EVENT TRIGGER IF EXISTS skinspire_attach;
CREATE EVENT TRIGGER skinspire_attach ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE')
    EXECUTE FUNCTION skinspire.attach_triggers();
"""
REMOVE = """
DROP EVENT TRIGGER IF EXISTS skinspire_attach;
DROP FUNCTION IF EXISTS skinspire.attach_triggers();
"""


def state(connection: Connection, wishes: Wishes) -> str:
    """``installed``, ``outdated``, ``disabled``; ``missing`` where it is wished for and could be
    made; else ``absent``."""
    found = fetch_row(connection, _STATE, [NAME])
    if found is None:
        return "missing" if wishes.event_trigger and may(connection) else "absent"
    body, definer, enabled = found
    if body != _body(connection, wishes) or not definer:
        # What only another role can mend is no drift of whoever looks.
        return "outdated" if may(connection) else "absent"
    return "installed" if enabled else "disabled"


def may(connection: Connection) -> bool:
    """Whether the connecting role could make it."""
    return bool(
        fetch_value(connection, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    )


def statement(connection: Connection, wishes: Wishes) -> str:
    """What makes it, in place of the one that is there."""
    with connection.cursor() as cursor:
        body: str = cursor.mogrify("%s", [_body(connection, wishes)]).decode()
    return _MAKE.replace("{body}", body)


def _body(connection: Connection, wishes: Wishes) -> str:
    """The survey itself, of the tables that were touched."""
    with connection.cursor() as cursor:
        query = cursor.mogrify(file("survey"), given(None, wishes, AsIs("touched"))).decode()
    return file("attach_triggers").replace("{survey}", query)
