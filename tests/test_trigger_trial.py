"""Firing every trigger on a real row, of which nothing stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dbops.operations.triggers import TryTriggersRequest, TryTriggersResult, try_triggers
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_value, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import write_stamp
from dbops.postgres.triggers import HistoryRule, Wishes
from tests.installation import Installation, row_hashes
from tests.legacy_clinic import make_legacy_clinic
from tests.triggering import CONTEXT, install

WISHES = Wishes(users="public.people", history=(HistoryRule("public.patients"),))


@pytest.fixture
def db(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        write_stamp(connection, "dev")
        yield connection


def tried(params: ConnectionParams, **options: Any) -> TryTriggersResult:
    request = TryTriggersRequest(params, "dev", wishes=WISHES, **options)
    return try_triggers(request, CONTEXT)


PATIENTS = """
CREATE TABLE public.people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE);
INSERT INTO public.people (name) VALUES ('mehta'), ('rao');
CREATE TABLE public.patients (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE,
    card uuid UNIQUE DEFAULT gen_random_uuid(), length integer GENERATED ALWAYS AS (id * 2) STORED,
    doctor bigint NOT NULL UNIQUE REFERENCES public.people,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamp NOT NULL DEFAULT now(),
    created_by bigint REFERENCES public.people, updated_by varchar(5) NOT NULL DEFAULT 'x');
INSERT INTO public.patients (email, doctor) VALUES ('a@x', 1), ('b@x', 2);
CREATE TABLE public.visits (patient integer REFERENCES public.patients ON DELETE CASCADE);
INSERT INTO public.visits VALUES (1), (2);
CREATE TABLE public."odd %s {name}" ("né" serial PRIMARY KEY, updated_at date, created_by char(3));
INSERT INTO public."odd %s {name}" DEFAULT VALUES;
CREATE TABLE public.keyless (note text, created_at timestamptz);
INSERT INTO public.keyless VALUES ('x');
CREATE TABLE public.empty (id integer, updated_at timestamptz);
CREATE TABLE public.whole (id integer, day date, updated_by text) PARTITION BY RANGE (id);
CREATE TABLE public.low PARTITION OF public.whole FOR VALUES FROM (0) TO (10);
CREATE TABLE public.high PARTITION OF public.whole DEFAULT;
INSERT INTO public.whole VALUES (50);
"""


def test_a_table_that_an_app_only_adds_to_is_no_failure(
    db: Connection, empty_database: ConnectionParams
) -> None:
    """The guard of accounts' history lives in our schema, but it is not what is tried."""
    execute(
        db,
        """CREATE TABLE public.events (id integer PRIMARY KEY, created_by text);
        INSERT INTO public.events VALUES (1);
        CREATE FUNCTION skinspire.keep() RETURNS trigger LANGUAGE plpgsql
            AS $$BEGIN RAISE EXCEPTION 'only added to'; END$$;
        CREATE TRIGGER keep BEFORE UPDATE ON public.events EXECUTE FUNCTION skinspire.keep()""",
    )
    install(db, WISHES)
    found = tried(empty_database)
    assert found.failed == ()
    assert found.untested == ("public.events: skinspire_actors (only added to)",)


def test_a_history_is_not_tried_by_what_another_of_ours_keeps(
    db: Connection, empty_database: ConnectionParams
) -> None:
    execute(
        db,
        """CREATE TABLE public.patients (id integer PRIMARY KEY, created_at timestamptz, name text);
        INSERT INTO public.patients VALUES (1, '2001-01-01', 'x')""",
    )
    install(db, WISHES)
    assert tried(empty_database).failed == ()


def test_each_is_fired_and_nothing_stays(db: Connection, empty_database: ConnectionParams) -> None:
    execute(db, PATIENTS)
    # Somebody else's trigger that tells the world.
    execute(
        db,
        """CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN PERFORM pg_notify('shout', TG_OP); RETURN NEW; END $$;
           CREATE TRIGGER shout AFTER INSERT OR UPDATE ON public.patients
               FOR EACH ROW EXECUTE FUNCTION public.shout(); LISTEN shout""",
    )
    install(db, WISHES)
    before = row_hashes(empty_database)
    result = tried(empty_database)
    assert result.failed == ()
    assert set(result.passed) == {
        "public.keyless: skinspire_timestamps",
        "public.odd %s {name}: skinspire_actors",
        "public.odd %s {name}: skinspire_timestamps",
        "public.patients: skinspire_actor_ids",
        "public.patients: skinspire_actors",
        "public.patients: skinspire_history",
        "public.patients: skinspire_timestamps",
        "public.whole: skinspire_actors",
    }
    assert result.untested == (
        "public.empty: skinspire_timestamps (the table holds no row that is free)",
    )
    assert row_hashes(empty_database) == before, "rows and sequences"
    assert fetch_value(db, "SELECT count(*) FROM skinspire.row_history") == 0
    execute(db, "SELECT 1")
    assert db.notifies == []


def test_what_does_not_work_fails_and_is_told(
    db: Connection, empty_database: ConnectionParams
) -> None:
    execute(db, PATIENTS)
    install(db, WISHES)
    # As somebody might have mended them.
    execute(
        db,
        """CREATE OR REPLACE FUNCTION skinspire.set_updated_at() RETURNS trigger LANGUAGE plpgsql
               AS $$ BEGIN RETURN NEW; END $$;
           CREATE OR REPLACE FUNCTION skinspire.set_created_at() RETURNS trigger LANGUAGE plpgsql
               AS $$ BEGIN NEW.created_at := 1 / 0; RETURN NEW; END $$;
           CREATE OR REPLACE FUNCTION skinspire.record_history() RETURNS trigger LANGUAGE plpgsql
               AS $$ BEGIN RETURN NULL; END $$;
           ALTER TABLE public.whole DISABLE TRIGGER skinspire_actors""",
    )
    assert tried(empty_database).failed == (
        "public.keyless: skinspire_timestamps (division by zero)",
        "public.odd %s {name}: skinspire_timestamps (an INSERT is not stamped as it should be)",
        "public.patients: skinspire_history (what became of a row was not recorded)",
        "public.whole: skinspire_actors (it is disabled)",
    )


def test_what_others_change_or_refuse_is_untested_and_told(
    db: Connection, empty_database: ConnectionParams
) -> None:
    make_legacy_clinic(db)
    execute(
        db,
        """CREATE TABLE public.closed (id integer PRIMARY KEY, updated_at timestamptz);
           INSERT INTO public.closed VALUES (1);
           CREATE FUNCTION public.close() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN RAISE EXCEPTION 'this year is closed'; END $$;
           CREATE TRIGGER close BEFORE INSERT OR UPDATE ON public.closed
               FOR EACH ROW EXECUTE FUNCTION public.close()""",
    )
    install(db)
    result = tried(empty_database)
    assert result.failed == ()
    assert "public.part_02: skinspire_timestamps" in result.passed
    assert "public.closed: skinspire_timestamps (this year is closed)" in result.untested
    reason = "track_user_changes, update_timestamp fires after it"
    assert any(
        it.startswith(f"public.part_02: skinspire_actors ({reason}") for it in result.untested
    )


def test_a_row_that_somebody_holds_stops_nobody(
    db: Connection, empty_database: ConnectionParams
) -> None:
    execute(db, "CREATE TABLE public.t (id integer PRIMARY KEY, updated_at timestamptz)")
    execute(db, "INSERT INTO public.t VALUES (1)")
    install(db)
    with session(empty_database) as other:
        execute(other, "BEGIN; UPDATE public.t SET id = 1")
        assert "no row that is free" in tried(empty_database).untested[0]
        execute(other, "ROLLBACK; BEGIN; LOCK TABLE public.t")
        assert "lock timeout" in tried(empty_database).untested[0]
        execute(other, "ROLLBACK")
    assert tried(empty_database).passed == ("public.t: skinspire_timestamps",)


def test_the_command(installation18: Installation) -> None:
    """Of production, too, without its name being typed: nothing is written."""
    with session(installation18.databases["prod"]) as connection:
        write_stamp(connection, "prod")
        execute(connection, "CREATE TABLE public.t (id integer PRIMARY KEY, updated_at date)")
        execute(connection, "INSERT INTO public.t VALUES (1)")
        install(connection)
    result = installation18.result("test_triggers", "--env", "prod")
    assert result == {
        "passed": ["public.t: skinspire_timestamps"], "failed": [], "untested": [],
    }  # fmt: skip
    installation18.sql("prod", "ALTER TABLE public.t DISABLE TRIGGER ALL")
    answer = installation18.run("test_triggers", "--env", "prod", "--json", code=1).json
    assert answer["result"]["failed"] == ["public.t: skinspire_timestamps (it is disabled)"]
    assert "1 trigger fails to do as promised in prod" in answer["error"]["message"]
    with session(installation18.databases["prod"]) as connection:
        assert fetch_all(connection, "SELECT * FROM public.t") == [(1, None)]
