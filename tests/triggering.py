"""What the tests of triggers share."""

from __future__ import annotations

from typing import Any

from dbops.operations.context import OperationContext
from dbops.operations.triggers import (
    ApplyTriggersRequest,
    ApplyTriggersResult,
    VerifyTriggersRequest,
    VerifyTriggersResult,
    apply_triggers,
    verify_triggers,
)
from dbops.postgres import triggers
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_value
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.triggers import HistoryRule, Wishes

CONTEXT = OperationContext("0123456789ab", actor="dr.mehta")
NOTHING = Wishes()
USERS = Wishes(users="public.people")
PATIENTS = Wishes(history=(HistoryRule("public.patients", ("notes",)),))


def install(
    connection: Connection, wishes: Wishes = NOTHING, **options: Any
) -> triggers.Installation:
    return triggers.install(connection, wishes, poll=do_not_poll, **options)


def apply(params: ConnectionParams, **options: Any) -> ApplyTriggersResult:
    """As ``apply_triggers --env dev`` does."""
    return apply_triggers(ApplyTriggersRequest(params, "dev", **options), CONTEXT)


def verify(params: ConnectionParams, wishes: Wishes = NOTHING) -> VerifyTriggersResult:
    """As ``verify_triggers --env dev`` does."""
    return verify_triggers(VerifyTriggersRequest(params, "dev", wishes), CONTEXT)


def act(connection: Connection, name: str, key: object = "") -> None:
    """For the rest of the session."""
    execute(connection, "SELECT set_config('skinspire.actor', %s, false)", [name])
    execute(connection, "SELECT set_config('skinspire.actor_id', %s, false)", [str(key)])


def recorded(connection: Connection) -> list[tuple[Any, ...]]:
    """(table, key, operation, old values, new values, actor) of the row history."""
    return fetch_all(
        connection,
        """SELECT table_schema || '.' || table_name, key, operation, old_values, new_values, actor
             FROM skinspire.row_history ORDER BY id""",
    )


def make_patients(connection: Connection) -> None:
    execute(
        connection,
        """CREATE TABLE public.patients (id integer PRIMARY KEY, name text, notes text,
               password_hash text, updated_at timestamptz)""",
    )


def catalogue(connection: Connection) -> list[tuple[Any, ...]]:
    """Every row an installation could have written, as the server identifies its versions."""
    return fetch_all(
        connection,
        """SELECT 'trigger', oid::text, xmin::text FROM pg_trigger
           UNION ALL SELECT 'function', oid::text, xmin::text FROM pg_proc
           UNION ALL SELECT 'schema', oid::text, xmin::text FROM pg_namespace
           UNION ALL SELECT 'table', oid::text, xmin::text FROM pg_class
           UNION ALL SELECT 'comment', objoid::text, xmin::text FROM pg_description
           ORDER BY 1, 2, 3""",
    )


def definitions(connection: Connection) -> dict[str, tuple[Any, ...]]:
    """{"table: trigger": (definition, state, comment)} of every trigger that is not inherited."""
    rows = fetch_all(
        connection,
        """SELECT tgrelid::regclass || ': ' || tgname, pg_get_triggerdef(oid), tgenabled,
                  obj_description(oid, 'pg_trigger')
             FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0""",
    )
    return {name: tuple(rest) for name, *rest in rows}


def database_name(connection: Connection) -> str:
    return str(fetch_value(connection, "SELECT current_database()"))
