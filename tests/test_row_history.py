"""Row history: what became of each row, by whom, and that it can neither be changed nor leak."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.core.checks import Error

from dbops.checks import check_row_history
from dbops.exceptions import ConfigurationError, StatementError
from dbops.postgres import triggers
from dbops.postgres.connection import Connection, execute, fetch_row, fetch_value, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.triggers import HistoryRule, Wishes, history
from tests.triggering import (
    PATIENTS,
    act,
    catalogue,
    database_name,
    install,
    make_patients,
    recorded,
)

EVERYTHING = Wishes(history=(HistoryRule("*"),))


@pytest.fixture
def db(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        make_patients(connection)
        act(connection, "dr.mehta")
        yield connection


@pytest.fixture
def clerk(superuser: ConnectionParams) -> Iterator[str]:
    """A role with no rights but those it is given."""
    name = f"clerk_{secrets.token_hex(4)}"
    with session(superuser) as connection:
        execute(connection, f"CREATE ROLE {name}")
    yield name
    with session(superuser) as connection:
        execute(connection, f"DROP ROLE {name}")


def test_what_becomes_of_a_row_is_recorded(db: Connection) -> None:
    install(db, PATIENTS)
    before = datetime.now(UTC)
    execute(db, "INSERT INTO public.patients VALUES (1, 'Anna', 'shy', 'x1', '2001-02-03')")
    execute(db, "UPDATE public.patients SET name = 'Änne', notes = 'bold', password_hash = 'x2'")
    execute(db, "UPDATE public.patients SET id = 2")
    execute(db, "DELETE FROM public.patients")
    rows = recorded(db)
    assert [row[:3] for row in rows] == [
        ("public.patients", {"id": 1}, "INSERT"),
        ("public.patients", {"id": 1}, "UPDATE"),
        ("public.patients", {"id": 1}, "UPDATE"),
        ("public.patients", {"id": 2}, "DELETE"),
    ]
    inserted, updated, renumbered, deleted = rows
    assert inserted[3] is None
    assert inserted[4].keys() == {"id", "name", "updated_at"}
    assert inserted[4]["updated_at"].startswith("2001-02-03"), "as it was finally stored"
    assert updated[3].keys() == updated[4].keys() == {"name", "updated_at"}
    assert (updated[3]["name"], updated[4]["name"]) == ("Anna", "Änne")
    assert updated[4]["updated_at"] > "2020", "what our own trigger made of it"
    assert (renumbered[3]["id"], renumbered[4]["id"]) == (1, 2)
    assert (deleted[3]["name"], deleted[4]) == ("Änne", None)
    assert {row[5] for row in rows} == {"dr.mehta"}
    assert fetch_value(db, "SELECT min(at) FROM skinspire.row_history") >= before.replace(
        microsecond=0
    )
    transactions = "SELECT count(DISTINCT transaction_id) FROM skinspire.row_history"
    assert fetch_value(db, transactions) == 4
    text = fetch_value(db, "SELECT string_agg(h::text, '') FROM skinspire.row_history h")
    assert not any(secret in text for secret in ("x1", "x2", "shy", "bold"))


def test_a_column_that_comes_later_is_recorded_unless_its_name_tells_a_secret(
    db: Connection,
) -> None:
    install(db, PATIENTS)
    execute(db, "ALTER TABLE public.patients ADD phone text, ADD api_token text")
    execute(db, "INSERT INTO public.patients (id, phone, api_token) VALUES (1, '77', 'canary')")
    ((*_, values, _),) = recorded(db)
    assert (values["phone"], values.get("api_token")) == ("77", None)
    assert "api_token" not in values
    assert not triggers.status(db, PATIENTS).drift


def test_an_update_that_changes_nothing_leaves_nothing(db: Connection) -> None:
    execute(db, "CREATE TABLE public.plain (id integer PRIMARY KEY, note text)")
    install(db, EVERYTHING)
    execute(db, "INSERT INTO public.plain VALUES (1, NULL)")
    execute(db, "UPDATE public.plain SET note = NULL, id = 1")
    assert [row[2] for row in recorded(db)] == ["INSERT"]


def test_a_rollback_takes_the_history_along(db: Connection) -> None:
    install(db, PATIENTS)
    execute(db, "BEGIN; INSERT INTO public.patients (id) VALUES (1); ROLLBACK")
    assert recorded(db) == []


def test_a_partition_tells_of_its_table_and_a_key_of_several_columns(db: Connection) -> None:
    execute(
        db,
        """CREATE TABLE public.visits (day date, "né" integer, note text, PRIMARY KEY ("né", day))
               PARTITION BY RANGE (day);
           CREATE TABLE public.old PARTITION OF public.visits
               FOR VALUES FROM ('2020-01-01') TO ('2025-01-01')""",
    )
    install(db, EVERYTHING)
    execute(db, "CREATE TABLE public.new PARTITION OF public.visits DEFAULT")
    execute(db, "INSERT INTO public.visits VALUES ('2024-01-01', 1, 'a'), ('2026-01-01', 2, 'b')")
    assert [row[:2] for row in recorded(db)] == [
        ("public.visits", {"né": 1, "day": "2024-01-01"}),
        ("public.visits", {"né": 2, "day": "2026-01-01"}),
    ]
    assert not triggers.status(db, EVERYTHING).drift


def test_tables_that_cannot_have_one_are_told(
    db: Connection, superuser: ConnectionParams, clerk: str
) -> None:
    execute(db, "CREATE TABLE public.keyless (id integer)")
    execute(db, "CREATE TABLE public.cards (token text PRIMARY KEY)")
    execute(db, "CREATE TABLE public.theirs (id integer PRIMARY KEY)")
    with session(superuser.with_database(database_name(db))) as privileged:
        execute(privileged, f"ALTER TABLE public.theirs OWNER TO {clerk}")
    try:
        wishes = replace(EVERYTHING, history=(*EVERYTHING.history, HistoryRule("clinic.*")))
        result = install(db, wishes)
        role = fetch_value(db, "SELECT current_user")
        assert result.skipped == (
            "public.cards: has no row history: its key token is kept out of it",
            "public.keyless: has no row history: it has no primary key",
            f"public.theirs: has no row history: it belongs to {clerk}, the history to {role}",
            "row history: clinic.* fits no table",
        )
        assert triggers.status(db, wishes).installed == (
            "public.patients: skinspire_history",
            "public.patients: skinspire_timestamps",
            "skinspire.row_history: skinspire_guard",
        )
    finally:
        with session(superuser.with_database(database_name(db))) as privileged:
            execute(privileged, "DROP TABLE public.theirs")


def test_it_only_grows(db: Connection, superuser: ConnectionParams) -> None:
    install(db, PATIENTS)
    execute(db, "INSERT INTO public.patients (id) VALUES (1)")
    for statement in (
        "UPDATE skinspire.row_history SET actor = 'nobody'",
        "DELETE FROM skinspire.row_history",
        "TRUNCATE skinspire.row_history",
        "SET session_replication_role = replica; DELETE FROM skinspire.row_history",
    ):
        with (
            session(superuser.with_database(database_name(db))) as privileged,
            pytest.raises(StatementError, match="only grows"),
        ):
            execute(privileged, statement)
    assert len(recorded(db)) == 1
    execute(db, "ALTER TABLE skinspire.row_history DISABLE TRIGGER skinspire_guard")
    assert history.LABEL in triggers.status(db, PATIENTS).outdated
    install(db, PATIENTS)
    assert not triggers.status(db, PATIENTS).drift
    assert len(recorded(db)) == 1


def test_whoever_may_write_the_table_is_recorded_and_reaches_nothing_else(
    db: Connection, superuser: ConnectionParams, clerk: str
) -> None:
    """Fault 42: not by default privileges either."""
    execute(db, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {clerk}")
    install(db, PATIENTS)
    execute(db, f"GRANT INSERT, UPDATE, DELETE, SELECT ON public.patients TO {clerk}")
    with session(superuser.with_database(database_name(db))) as other:
        execute(other, f"SET SESSION AUTHORIZATION {clerk}")
        execute(other, "INSERT INTO public.patients (id, name) VALUES (1, 'Anna')")
        execute(other, "UPDATE public.patients SET name = 'Änne'")
        for statement in (
            "SELECT * FROM skinspire.row_history",
            "INSERT INTO skinspire.row_history (actor) VALUES ('forged')",
            "CREATE TABLE pg_temp.t (id integer); CREATE TRIGGER forged AFTER INSERT ON pg_temp.t"
            " FOR EACH ROW EXECUTE FUNCTION skinspire.record_history('[]', 'x', 'public', 'y')",
        ):
            with pytest.raises(StatementError, match="permission denied"):
                execute(other, statement)
    assert [(row[2], row[5]) for row in recorded(db)] == [("INSERT", clerk), ("UPDATE", clerk)]
    assert not fetch_value(
        db, "SELECT has_table_privilege(%s, 'skinspire.row_history', 'SELECT')", [clerk]
    )
    execute(db, f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM {clerk}")
    execute(db, "DROP TABLE public.patients")


HOSTILE = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS $$SELECT '{}'::jsonb$$;
CREATE FUNCTION hostile.current_setting(text, boolean) RETURNS text LANGUAGE sql
    AS $$SELECT 'mallory'$$;
CREATE FUNCTION hostile.lies(jsonb, jsonb) RETURNS boolean LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'hostile operator used'; END$$;
CREATE OPERATOR hostile.= (FUNCTION = hostile.lies, LEFTARG = jsonb, RIGHTARG = jsonb);
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
    AS $$SELECT '1980-01-01'::timestamptz$$;
CREATE TEMPORARY TABLE row_history (x integer);
CREATE TABLE hostile.row_history (x integer);
"""


def test_a_hostile_search_path_changes_nothing(db: Connection) -> None:
    """Fault 41: the history's own function has its path pinned."""
    execute(db, HOSTILE)
    install(db, PATIENTS)
    execute(db, "SET search_path = hostile, pg_temp, public, pg_catalog")
    execute(db, "INSERT INTO public.patients (id, name) VALUES (1, 'Anna')")
    execute(db, "SET search_path = pg_catalog")
    ((_, _, _, _, values, actor),) = recorded(db)
    assert (values["name"], actor) == ("Anna", "dr.mehta")
    assert fetch_value(db, "SELECT at > '2020-01-01' FROM skinspire.row_history")


def test_installed_twice_is_the_same_catalogue_and_opting_out_ends_it(db: Connection) -> None:
    """Fault 39: the history's table included."""
    install(db, PATIENTS)
    before = catalogue(db)
    assert install(db, PATIENTS).statements == ()
    assert catalogue(db) == before
    execute(db, "INSERT INTO public.patients (id) VALUES (1)")
    assert triggers.status(db).outdated == ("public.patients: skinspire_history",)
    install(db)
    execute(db, "INSERT INTO public.patients (id) VALUES (2)")
    assert len(recorded(db)) == 1, "what was recorded stays"


def test_a_removal_takes_everything_but_what_was_recorded(db: Connection) -> None:
    before = {row[:2] for row in catalogue(db) if row[0] != "schema"}
    install(db, PATIENTS)
    removed = triggers.remove(db, poll=do_not_poll)
    assert (removed.triggers, removed.functions, removed.kept) == (2, 11, ())
    assert before == {row[:2] for row in catalogue(db) if row[0] != "schema"}
    install(db, PATIENTS)
    execute(db, "INSERT INTO public.patients (id) VALUES (1)")
    planned = triggers.remove(db, dry_run=True, poll=do_not_poll)
    assert not triggers.status(db, PATIENTS).drift
    removed = triggers.remove(db, poll=do_not_poll)
    assert planned == removed
    assert removed.kept == (
        "skinspire.row_history holds 1 row",
        "function skinspire.refuse_change is used by triggers that stay",
    )
    assert len(recorded(db)) == 1
    with pytest.raises(StatementError, match="only grows"):
        execute(db, "DELETE FROM skinspire.row_history")
    install(db, PATIENTS)
    execute(db, "DELETE FROM public.patients")
    assert len(recorded(db)) == 2


@pytest.mark.parametrize(
    ("text", "pattern", "columns"),
    [
        ("clinic.patients", "clinic.patients", ()),
        (" patients : notes  fee ", "patients", ("notes", "fee")),
        ("billing.*: note", "billing.*", ("note",)),
    ],
)
def test_wishes_are_understood(text: str, pattern: str, columns: tuple[str, ...]) -> None:
    assert HistoryRule.parse(text) == HistoryRule(pattern, columns)


@pytest.mark.parametrize("wish", ["", ":", "a b", "a:", "a:b:c", ": notes", "a,b", 3, ("a", "b")])
def test_a_wish_that_means_nothing_is_told_on_start(settings: object, wish: object) -> None:
    with pytest.raises(ConfigurationError, match="names no tables"):
        HistoryRule.parse(wish)
    settings.DBOPS_ROW_HISTORY = ("clinic.patients", wish)  # type: ignore[attr-defined]
    (found,) = check_row_history(None)
    assert isinstance(found, Error)
    assert (found.id, "clinic.patients" in (found.hint or "")) == ("dbops.E040", True)
    settings.DBOPS_ROW_HISTORY = "clinic.patients"  # type: ignore[attr-defined]
    assert [it.id for it in check_row_history(None)] == ["dbops.E040"]


def test_patterns_mean_what_they_mean_elsewhere(db: Connection) -> None:
    execute(db, 'CREATE SCHEMA "a.b"; CREATE TABLE "a.b"."x+y" (id integer PRIMARY KEY)')
    for pattern, fits in (
        ("a.b.x+y", True), ("a.b.*", True), ("x?y", True), ("x+", False), ("b.x+y", False),
        ("a.b.x+", False), ("*", True), ("a?b.x+y", True), ("X+Y", False),
    ):  # fmt: skip
        rule = HistoryRule(pattern)
        assert rule.fits("a.b", "x+y") is fits, pattern
        missing = triggers.status(db, Wishes(history=(rule,))).missing
        assert ("a.b.x+y: skinspire_history" in missing) is fits, pattern


def test_forgetting_begins_anew(db: Connection) -> None:
    install(db, PATIENTS)
    execute(db, "INSERT INTO public.patients (id) VALUES (1)")
    assert history.forget(db) == 1
    assert (recorded(db), triggers.status(db, PATIENTS).drift) == ([], False)
    execute(db, "DELETE FROM public.patients")
    assert [row[2] for row in recorded(db)] == ["DELETE"]
    assert fetch_row(db, "SELECT id FROM skinspire.row_history") == (1,)
