"""Tables that are made later get their triggers at once, where a superuser saw to it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dbops.postgres import triggers
from dbops.postgres.connection import Connection, execute, fetch_value, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.triggers import HistoryRule, Wishes
from tests.triggering import act, database_name, definitions, install, recorded

WISHES = Wishes(
    users="public.people", history=(HistoryRule("public.patients"),), event_trigger=True
)


@pytest.fixture
def db(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        execute(connection, "CREATE TABLE public.people (id bigint PRIMARY KEY)")
        execute(connection, "INSERT INTO public.people VALUES (7)")
        yield connection


@pytest.fixture
def chief(db: Connection, superuser: ConnectionParams) -> Iterator[Connection]:
    """A superuser in the same database."""
    with session(superuser.with_database(database_name(db))) as connection:
        yield connection


def test_what_is_made_later_is_served_at_once(db: Connection, chief: Connection) -> None:
    install(db, replace(WISHES, event_trigger=False))
    install(chief, WISHES)
    act(db, "dr.mehta", 7)
    execute(
        db,
        """CREATE TABLE public.patients (id integer PRIMARY KEY, updated_at timestamptz,
               created_by integer REFERENCES public.people, password text)""",
    )
    execute(db, "INSERT INTO public.patients VALUES (1, NULL, NULL, 'plain')")
    assert fetch_value(db, "SELECT updated_at IS NOT NULL AND created_by = 7 FROM public.patients")
    assert "password" not in recorded(db)[0][4]
    execute(db, "ALTER TABLE public.patients ADD updated_by varchar(4)")
    assert fetch_value(db, "UPDATE public.patients SET id = 2 RETURNING updated_by") == "dr.m"
    execute(db, "ALTER TABLE public.patients ALTER updated_by TYPE varchar(8)")
    assert fetch_value(db, "UPDATE public.patients SET id = 3 RETURNING updated_by") == "dr.mehta"
    execute(db, "CREATE TABLE public.copied AS SELECT * FROM public.patients")
    execute(db, "SELECT * INTO public.selected FROM public.patients")
    execute(db, "CREATE TEMPORARY TABLE passing (updated_at timestamptz)")
    execute(db, "CREATE VIEW public.seen AS SELECT * FROM public.patients")
    assert not triggers.status(chief, WISHES).drift
    assert not triggers.status(db, WISHES).drift
    assert "public.copied: skinspire_timestamps" in triggers.status(db, WISHES).installed


def test_a_role_without_rights_on_our_schema_makes_its_table(
    db: Connection, chief: Connection
) -> None:
    install(db)
    install(chief, WISHES)
    clerk = f"clerk_{secrets.token_hex(4)}"
    execute(chief, f"CREATE ROLE {clerk}; GRANT CREATE ON SCHEMA public TO {clerk}")
    execute(chief, f"SET SESSION AUTHORIZATION {clerk}")
    execute(chief, "CREATE TABLE public.notes (id integer, updated_by text)")
    execute(chief, "INSERT INTO public.notes VALUES (1)")
    assert fetch_value(chief, "SELECT updated_by FROM public.notes") == clerk
    execute(chief, "RESET SESSION AUTHORIZATION")
    execute(chief, f"DROP OWNED BY {clerk}; DROP ROLE {clerk}")


def test_a_failure_of_ours_stops_nobody(db: Connection, chief: Connection) -> None:
    install(db)
    install(chief, WISHES)
    execute(chief, "DROP FUNCTION skinspire.set_updated_at()")
    execute(db, "CREATE TABLE public.t (updated_at timestamptz)")
    assert any("could not attach" in notice for notice in db.notices)
    assert triggers.status(db, WISHES).missing == ("public.t: skinspire_timestamps",)


def test_where_the_role_may_not_it_is_told_and_the_rest_is_done(db: Connection) -> None:
    execute(db, "CREATE TABLE public.t (updated_at timestamptz)")
    result = install(db, WISHES)
    assert "event trigger: skinspire_attach is left out: only a superuser may make one" in (
        result.skipped
    )
    assert not triggers.status(db, WISHES).drift
    assert result.triggers == 1


def test_it_is_mended_kept_and_removed(db: Connection, chief: Connection) -> None:
    install(db)
    absent = ("event trigger: skinspire_attach", "skinspire.row_history: skinspire_guard")
    assert triggers.status(chief, WISHES).missing == absent
    assert install(chief, WISHES).statements != ()
    assert install(chief, WISHES).statements == ()
    other = replace(WISHES, users="public.others")
    assert triggers.status(chief, other).outdated == ("event trigger: skinspire_attach",)
    install(chief, other)
    assert not triggers.status(chief, other).drift
    assert install(chief, replace(other, event_trigger=False)).statements == ()
    execute(chief, "ALTER EVENT TRIGGER skinspire_attach DISABLE")
    assert triggers.status(chief, other).disabled == ("event trigger: skinspire_attach",)
    install(chief, other)
    assert not triggers.status(chief, other).drift
    removed = triggers.remove(chief, poll=do_not_poll)
    assert (removed.kept, definitions(chief)) == ((), {})
    assert fetch_value(chief, "SELECT count(*) FROM pg_event_trigger") == 0
