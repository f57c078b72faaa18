"""Databases of the earlier system: its triggers beside ours, in our place, and back again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from dbops.exceptions import PreflightError
from dbops.postgres import triggers
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_row, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.triggers import Replaced
from tests.installation import Installation
from tests.legacy_clinic import TABLES, make_legacy_clinic
from tests.triggering import act, catalogue, definitions, install

HASHING = (
    "public.users: hash_password (nothing of ours does its work: without it plain passwords "
    "would be stored)"
)


@pytest.fixture
def clinic(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        make_legacy_clinic(connection)
        act(connection, "dr.mehta")
        yield connection


def replace(connection: Connection) -> Replaced:
    """What gave way, as an operation's record has it."""
    result = install(connection, replace_legacy=True).replaced
    assert result is not None
    return Replaced.from_json(json.loads(json.dumps(asdict(result))))


def put_back(connection: Connection, replaced: Replaced) -> int:
    return triggers.put_back(connection, replaced, poll=do_not_poll)


def test_they_are_told_and_stay_beside_ours(clinic: Connection) -> None:
    before = definitions(clinic)
    assert len(before) == 2 * TABLES + 1
    told = triggers.status(clinic)
    assert len(told.legacy) == len(before)
    assert told.foreign == ()
    install(clinic)
    after = definitions(clinic)
    assert before.items() <= after.items()
    assert not triggers.status(clinic).drift
    row = fetch_row(
        clinic, "UPDATE public.part_02 SET note = '' RETURNING updated_at >= now(), created_by"
    )
    assert row == (True, None)


def test_ours_take_their_place_at_once(clinic: Connection) -> None:
    replaced = replace(clinic)
    # Of two tables the actors are of a type that ours do not serve.
    assert len(replaced.triggers) == 2 * TABLES - 2
    assert replaced.kept == (
        "public.part_11: track_user_changes (ours would not serve it: created_by is numeric)",
        "public.part_12: track_user_changes (ours would not serve it: created_by is integer)",
        HASHING,
    )
    assert len(triggers.status(clinic).legacy) == 3
    assert not triggers.status(clinic).drift
    for table in ("part_03", "part_04", "part_49"):
        execute(clinic, f"UPDATE public.{table} SET note = ''")
        row = fetch_row(clinic, f"SELECT updated_by, updated_at IS NOT NULL FROM public.{table}")
        assert row == ("dr.mehta", True)
    execute(clinic, "UPDATE public.users SET password_hash = 'plain'")
    assert fetch_row(clinic, "SELECT password_hash ~ '^md5' FROM public.users") == (True,)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "ours were there before"])
def test_they_come_back_as_they_were(clinic: Connection, beside: bool) -> None:
    if beside:
        install(clinic)
    before = definitions(clinic)
    replaced = replace(clinic)
    assert definitions(clinic) != before
    assert put_back(clinic, replaced) == 98
    assert definitions(clinic) == before
    again = replace(clinic)
    assert len(again.triggers) == 98, "and can give way once more"


def test_a_function_that_was_dropped_meanwhile_comes_back_too(clinic: Connection) -> None:
    before = definitions(clinic)
    replaced = replace(clinic)
    execute(clinic, "DROP FUNCTION public.update_timestamp()")
    put_back(clinic, replaced)
    assert definitions(clinic) == before
    execute(clinic, "UPDATE public.part_02 SET note = 'x'")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DROP TABLE public.part_33", "public.part_33 is gone"),
        (
            """CREATE TRIGGER update_timestamp BEFORE INSERT ON public.part_34
               FOR EACH ROW EXECUTE FUNCTION public.update_timestamp()""",
            "public.part_34 has a trigger update_timestamp again",
        ),
        (
            """CREATE OR REPLACE FUNCTION public.update_timestamp() RETURNS trigger
               LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'""",
            "function public.update_timestamp.. is another one",
        ),
    ],
)
def test_where_one_cannot_come_back_none_does(clinic: Connection, change: str, words: str) -> None:
    replaced = replace(clinic)
    execute(clinic, change)
    before = catalogue(clinic)
    with pytest.raises(PreflightError, match=words):
        put_back(clinic, replaced)
    assert catalogue(clinic) == before


def test_without_a_record_none_gives_way(clinic: Connection) -> None:
    """It is kept before the commit: whoever dies in between has lost no way back."""
    before, kept = catalogue(clinic), []

    def fail(replaced: Replaced) -> None:
        kept.append(replaced)
        raise PreflightError("The disk is full.")

    with pytest.raises(PreflightError):
        install(clinic, replace_legacy=True, record=fail)
    assert len(kept[0].triggers) == 98
    assert catalogue(clinic) == before


def test_partitions_follow_their_table(clinic: Connection) -> None:
    execute(
        clinic,
        """CREATE TABLE public.visits (id integer, created_at timestamptz, updated_at timestamptz)
               PARTITION BY RANGE (id);
           CREATE TABLE public.some PARTITION OF public.visits DEFAULT;
           CREATE TRIGGER update_timestamp BEFORE INSERT OR UPDATE ON public.visits
               FOR EACH ROW EXECUTE FUNCTION public.update_timestamp()""",
    )
    inherited = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'public.some'::regclass"
    replaced = replace(clinic)
    assert ("public", "visits", "skinspire_timestamps") in replaced.installed
    assert "public.visits: update_timestamp" in [it.label for it in replaced.triggers]
    put_back(clinic, replaced)
    names = f"{inherited} AND tgname = 'update_timestamp'"
    assert fetch_all(clinic, inherited) == fetch_all(clinic, names) == [(1,)]
    execute(clinic, "ALTER TABLE public.some DISABLE TRIGGER update_timestamp")
    left = "public.visits: update_timestamp (its partitions have it in other states)"
    assert left in replace(clinic).kept


def test_the_whole_way_by_commands(installation18: Installation) -> None:
    made = installation18
    with session(made.databases["dev"]) as connection:
        make_legacy_clinic(connection)
        before = definitions(connection)
    made.result("init_db", "--adopt", "--env", "dev")
    planned = made.run("apply_triggers", "--env", "dev", "--replace-legacy", "--dry-run")
    assert "98 triggers of the earlier system give way" in planned.out
    assert "DROP TRIGGER" in planned.out
    done = made.run("apply_triggers", "--env", "dev", "--replace-legacy", "--json").json
    assert len(done["result"]["replaced"]["triggers"]) == 98
    assert len(made.result("verify_triggers", "--env", "dev")["legacy"]) == 3
    undone = made.result("undo_operation", "--noinput")
    assert (undone["undone"], undone["triggers"]) == (done["operation"]["id"], 98)
    with session(made.databases["dev"]) as connection:
        assert before.items() <= definitions(connection).items()
    error = made.refused("undo_operation", done["operation"]["id"], "--noinput")
    assert error["code"] == "nothing_to_undo"
    error = made.refused("undo_operation", "--noinput")
    assert "apply_triggers --replace-legacy" in error["hint"], "nothing older is undone"
    wrong = made.refused("apply_triggers", "--remove", "--replace-legacy", code=2)
    assert "--remove" in wrong["message"]
    removed = made.result("apply_triggers", "--env", "dev", "--remove")
    assert removed["triggers"] > 90
    with session(made.databases["dev"]) as connection:
        left = definitions(connection)
    # What accounts guarantee came with init_db and stays.
    assert {key: it for key, it in left.items() if ": accounts_" not in key} == before
