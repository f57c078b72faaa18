"""Migrations: all of what is pending or the database as it was, after a backup, told exactly."""

from __future__ import annotations

import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dbops.postgres.connection import execute, session
from tests.faults import ended, locks_held, wait_for
from tests.installation import Installation, reached_as
from tests.migrating import COMMON, LAST, migrated, ready, state, with_visits, without_visits


def test_all_that_is_pending_in_one_transaction(installation: Installation) -> None:
    """Among them rows whose foreign keys are checked at the end, and then an ALTER TABLE."""
    ready(installation)
    answer = installation.run("apply_migration", "--env", "dev", "--json").json
    result = answer["result"]
    assert (result["migrations"], result["way"]) == (COMMON, "together")
    assert answer["operation"]["kind"] == "migrate"
    assert installation.sql("dev", "SELECT count(*) FROM public.visits_visit") == 100
    rights = "SELECT count(*) FROM public.auth_permission WHERE codename = 'add_visit'"
    assert installation.sql("dev", rights) == 1
    stamped = "SELECT bool_and(tgenabled = 'O') FROM pg_trigger WHERE tgrelid = "
    assert installation.sql("dev", stamped + "'public.visits_visit'::regclass AND NOT tgisinternal")
    installation.result("verify_triggers", "--env", "dev")
    backups = installation.result("listbackups", "-d", "dev")["backups"]
    assert [it["name"] for it in backups] == [result["saved_as"]]

    before = state(installation)
    again = installation.result("apply_migration", "--env", "dev")
    assert (again["migrations"], again["saved_as"], again["way"]) == ([], None, None)
    assert state(installation) == before


def test_a_failure_half_way_leaves_nothing(installation: Installation) -> None:
    """Fault 44: the third succeeded, the fourth fails: all are rolled back, by one transaction."""
    with_visits(ready(installation), "failing")
    before = state(installation)
    error = installation.run("apply_migration", "--env", "dev", "--json", code=1).json
    assert error["error"]["code"] == "migration_failed"
    assert "visits.0004_half_way failed: division by zero." in error["error"]["message"]
    assert "rolled back: dev is as it was" in error["error"]["message"]
    assert error["result"]["outcome"] == "rolled back"
    assert error["result"]["saved_as"]
    assert state(installation) == before
    assert before[0] is None
    assert installation.scratch() == []
    assert "failed" in installation.run("operations").out


def test_what_no_transaction_holds_runs_on_a_copy(installation: Installation) -> None:
    """CREATE INDEX CONCURRENTLY: on a copy that takes the database's place, and can be undone."""
    migrated(installation, "concurrent")
    installation.variables["DBOPS_ROW_HISTORY"] = "visits_visit"
    installation.result("apply_triggers", "--env", "dev")
    installation.sql("dev", "UPDATE public.visits_visit SET weight = weight + 1")
    recorded = "SELECT string_agg(h::text, ' ' ORDER BY id) FROM skinspire.row_history h"
    history = installation.sql("dev", recorded)
    before = state(installation)
    with session(installation.databases["dev"]):  # somebody is there, who may go on reading
        answer = installation.run("apply_migration", "--env", "dev", "--json").json
    assert answer["result"]["way"] == "aside"
    assert answer["result"]["migrations"] == ["visits.0004_index"]
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'public.visits_weight'::regclass"
    assert installation.sql("dev", valid)
    assert installation.sql("dev", "SELECT environment FROM skinspire.stamp") == "dev"
    installation.result("verify_triggers", "--env", "dev")
    assert installation.sql("dev", recorded) == history, "it stays in its own environment"
    installation.sql("dev", "UPDATE public.visits_visit SET weight = weight + 1")
    assert installation.sql("dev", "SELECT count(*) FROM skinspire.row_history") == 200
    (kept,) = installation.scratch()
    assert kept == answer["result"]["previous"]
    installation.result("undo_operation", answer["operation"]["id"], "--noinput")
    assert state(installation) == before


def test_what_no_transaction_holds_fails_on_the_copy(installation18: Installation) -> None:
    """Fault 44: an index was built, the next migration fails in its middle; the database itself
    never saw either."""
    migrated(installation18, "concurrent_failing")
    before = state(installation18)
    error = installation18.run("apply_migration", "--env", "dev", "--json", code=1).json
    assert "visits.0005_half_way failed: division by zero." in error["error"]["message"]
    assert "It ran on a copy, which was dropped: dev is as it was." in error["error"]["message"]
    assert error["result"]["outcome"] == "copy dropped"
    assert state(installation18) == before
    assert installation18.scratch() == []


def test_a_copy_that_the_role_may_not_make_is_told_first(installation18: Installation) -> None:
    """Before a backup is made: what needs the copy, and how to do without."""
    migrated(installation18, "concurrent")
    apply = ["apply_migration", "--env", "dev"]
    with reached_as(installation18, "NOCREATEDB", "dev"):
        refused = installation18.refused(*apply)
        rehearsed = installation18.refused(*apply, "--rehearse")
    assert refused["message"].endswith(
        " may not create databases, but visits.0004_index cannot be rolled back and so runs on a "
        "copy."
    )
    assert refused["hint"].endswith(" CREATEDB. Or without a copy: --in-place")
    assert rehearsed["message"].endswith(
        " may not create databases, but a rehearsal runs on a copy."
    )
    assert rehearsed["hint"].endswith(" Or without a copy: --no-rehearse --in-place")
    assert installation18.result("listbackups")["backups"] == []


def test_in_place_says_what_is_left(installation18: Installation) -> None:
    """Fault 44: asked to work on the living database, it tells what is applied, what of the failed
    one is left, and the command that restores; which does."""
    migrated(installation18, "concurrent_failing")
    before = installation18.hashes("dev")
    error = installation18.run("apply_migration", "--env", "dev", "--in-place", "--json", code=1)
    told = error.json
    assert "applied is visits.0004_index; " in told["error"]["message"]
    assert "there is left: index public.visits_half." in told["error"]["message"]
    assert told["result"]["outcome"] == "left"
    assert str(state(installation18)[0]).endswith("0004_index")
    saved = told["result"]["saved_as"]
    assert f"dbrestore -d dev -i {saved}" in told["error"]["hint"]
    installation18.result("dbrestore", "-d", "dev", "-i", saved, "--noinput")
    assert installation18.hashes("dev") == before
    assert str(state(installation18)[0]).endswith(LAST.split(".")[1])


def test_a_failed_backup_means_no_migration(installation18: Installation) -> None:
    ready(installation18)
    before = state(installation18)
    (installation18.home / "backups").write_text("no directory")
    error = installation18.refused("apply_migration", "--env", "dev")
    assert error["code"] == "storage"
    assert state(installation18) == before
    assert installation18.result("apply_migration", "--env", "dev", "--no-backup")["migrations"]


def test_two_at_once(installation18: Installation) -> None:
    """Fault 45: the second waits, hears for whom, and then finds nothing left to do; so does
    Django's own command."""
    ready(installation18)
    with session(installation18.databases["dev"]) as holder:
        execute(holder, "BEGIN; LOCK TABLE public.django_content_type")
        first = installation18.start("apply_migration", "--env", "dev", "--no-backup",
                                   "--lock-timeout", "60", "--json")  # fmt: skip
        wait_for(lambda: locks_held(installation18, installation18.server) == 1)
        second = installation18.start("apply_migration", "--env", "dev", "--json")
        third = installation18.start("migrate", "--database", "dev", "--verbosity", "1")
        told = [_line_about(process, "Waiting: ") for process in (second, third)]
        for line in told:
            assert "dev is held by" in line
            assert "(migrate dev, operation " in line
        execute(holder, "ROLLBACK")
    assert ended(first)[0] == 0
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert '"migrations": []' in out
    out, err = third.communicate(timeout=60)
    assert third.returncode == 0, err
    assert "No migrations to apply" in out
    assert installation18.sql("dev", "SELECT count(*) FROM public.visits_visit") == 100


def _line_about(process: object, mark: str) -> str:
    stream = process.stderr  # type: ignore[attr-defined]
    for line in stream:
        if mark in line:
            return str(line)
    raise AssertionError("said nothing of it")


@pytest.mark.parametrize("way", [(), ("--aside",)])
def test_stopped_half_way(installation18: Installation, way: tuple[str, ...]) -> None:
    """Ctrl-C while a statement waits in the server: at once, and nothing is left."""
    ready(installation18)
    before = state(installation18)
    with session(installation18.databases["dev"]) as holder:
        execute(holder, "BEGIN; LOCK TABLE public.django_content_type IN SHARE MODE")
        first = installation18.start("apply_migration", "--env", "dev", "--no-backup",
                                     "--lock-timeout", "60", *way)  # fmt: skip
        if not way:
            _line_about(first, "Waiting for public.django_content_type, held by ")
        else:
            _line_about(first, "apply visits.0001")
        began = time.monotonic()
        first.send_signal(signal.SIGINT)
        code, err = ended(first)
        assert code == 130, err
        assert time.monotonic() - began < 10
        execute(holder, "ROLLBACK")
    assert state(installation18) == before
    assert installation18.scratch() == []


def test_a_migration_waits_for_djangos_own(installation18: Installation) -> None:
    """Fault 45: the other way round; and what Django's command applied is journalled."""
    ready(installation18)
    with session(installation18.databases["dev"]) as holder:
        execute(holder, "BEGIN; LOCK TABLE public.django_content_type")
        first = installation18.start("migrate", "--database", "dev", "--verbosity", "0")
        wait_for(lambda: locks_held(installation18, installation18.server) == 1)
        second = installation18.start("apply_migration", "--env", "dev", "--json")
        assert "dev is held by manage.py migrate (process " in _line_about(second, "Waiting: ")
        execute(holder, "ROLLBACK")
    assert ended(first)[0] == 0
    out, err = second.communicate(timeout=60)
    assert '"migrations": []' in out, err
    shown = installation18.result("show_migrations", "--env", "dev")["migrations"]
    ours = [it for it in shown if it["migration"] in COMMON]
    assert all(it["environments"]["dev"]["by"] for it in ours)


def test_a_long_lock(installation18: Installation) -> None:
    """Fault 46: it gives up after lock_timeout, names the table and who holds it, and leaves the
    database as it was."""
    migrated(installation18)
    installation18.result("rollback_migration", "--env", "dev", "--noinput", "--no-backup")
    before = state(installation18)
    with session(installation18.databases["dev"], application="nightly report") as holder:
        execute(holder, "BEGIN; SELECT FROM public.visits_visit")
        error = installation18.refused("apply_migration", "--env", "dev", "--lock-timeout", "1")
        execute(holder, "ROLLBACK")
    assert error["code"] == "locked"
    assert f"{LAST} waited 1 s for public.visits_visit, held by " in error["message"]
    assert "(nightly report, process " in error["message"]
    assert "dev is as it was" in error["message"]
    assert "--lock-timeout" in error["hint"]
    assert state(installation18) == before


def test_rehearsing_changes_nothing_and_tells_all(installation: Installation) -> None:
    with_visits(ready(installation), "concurrent")
    before = state(installation)
    result = installation.result("apply_migration", "--env", "dev", "--rehearse")
    assert state(installation) == before
    assert installation.scratch() == []
    assert (result["migrations"], result["saved_as"]) == ([], None)
    rehearsal = result["rehearsal"]
    assert rehearsal["ok"] is True
    steps = {step["migration"]: step for step in rehearsal["migrations"]}
    assert list(steps) == [*COMMON, "visits.0004_index"]
    rows = steps["visits.0002_first_rows"]
    assert rows["rows"] == {
        "public.visits_ward": {"inserted": 1, "updated": 0, "deleted": 0},
        "public.visits_visit": {"inserted": 100, "updated": 0, "deleted": 0},
    }
    assert rows["locks"]["public.visits_visit"] == "RowExclusiveLock"
    wide = steps[LAST]
    assert wide["rewritten"] == {"public.visits_visit": 100}
    assert wide["locks"] == {"public.visits_visit": "AccessExclusiveLock"}
    assert wide["seconds"] > 0
    assert all(step["rolls_back"] for step in rehearsal["migrations"]), rehearsal
    assert [step["locks_exact"] for step in rehearsal["migrations"]] == [True, True, True, False]
    text = installation.run("apply_migration", "--env", "dev", "--rehearse").out
    assert "public.visits_visit AccessExclusiveLock" in text
    assert "public.visits_visit 100" in text


def test_production_is_rehearsed_first(installation18: Installation) -> None:
    """It does not go on where the rehearsal fails; looking on needs no confirmation."""
    with_visits(ready(installation18, "prod"), "failing")
    before = state(installation18, "prod")
    assert installation18.refused("apply_migration", "--env", "prod")["code"] == "not_confirmed"
    for command in (("--rehearse",), ("--confirm", "prod")):
        answer = installation18.run(
            "apply_migration", "--env", "prod", "--json", *command, code=1
        ).json
        assert answer["error"]["code"] == "rehearsal_failed"
        assert "prod was not touched" in answer["error"]["message"]
        steps = answer["result"]["rehearsal"]["migrations"]
        assert "division by zero" in steps[-1]["error"]
        assert len(steps) == 4
    assert state(installation18, "prod") == before
    assert installation18.result("listbackups", "-d", "prod")["backups"] == []
    assert installation18.scratch() == []
    with_visits(installation18)
    done = installation18.result("apply_migration", "--env", "prod", "--confirm", "prod")
    assert done["rehearsal"]["ok"]
    assert done["migrations"] == COMMON


def test_rolling_back(installation18: Installation) -> None:
    """The latest, with what depends on them, in one transaction; back to the very schema."""
    ready(installation18)
    before = state(installation18)
    migrated_state = None
    installation18.result("apply_migration", "--env", "dev", "--no-backup")
    migrated_state = state(installation18)
    result = installation18.result("rollback_migration", "--env", "dev", "--noinput")
    assert result["migrations"] == [LAST]
    assert result["saved_as"]
    assert "note" not in str(state(installation18)[1])
    both = installation18.result("rollback_migration", "--steps", "2", "--env", "dev", "--noinput")
    assert both["migrations"] == COMMON[1::-1]
    assert state(installation18)[:2] == before[:2]
    installation18.result("apply_migration", "--env", "dev", "--no-backup")
    assert state(installation18)[:2] == migrated_state[:2]


def test_what_depends_on_it_is_rolled_back_first(installation18: Installation) -> None:
    migrated(installation18)
    installation18.sql("dev", """UPDATE public.django_migrations SET id = id + 1000
                                  WHERE name = '0002_first_rows'""")  # fmt: skip
    unasked = installation18.refused("rollback_migration", "--env", "dev")
    assert unasked["code"] == "not_confirmed"
    assert f"Undo {LAST}, visits.0002_first_rows in dev?" in unasked["message"]
    result = installation18.result("rollback_migration", "--env", "dev", "--noinput")
    assert result["migrations"] == [LAST, "visits.0002_first_rows"]


def test_what_cannot_be_undone_is_refused_by_name(installation18: Installation) -> None:
    migrated(installation18, "irreversible")
    rehearsal = installation18.result("apply_migration", "--env", "dev", "--rehearse")["rehearsal"]
    (step,) = rehearsal["migrations"]
    assert rehearsal["ok"]
    assert step["rolls_back"] is False
    assert "irreversible" in step["rollback_problem"]
    installation18.result("apply_migration", "--env", "dev", "--no-backup")
    before = state(installation18)
    error = installation18.refused("rollback_migration", "--steps", "2", "--env", "dev",
                                   "--noinput")  # fmt: skip
    assert error["code"] == "irreversible"
    assert "visits.0004_one_way" in error["message"]
    assert LAST not in error["message"]
    assert state(installation18) == before


def test_side_by_side(installation18: Installation) -> None:
    without_visits(installation18).result("init_db", "--env", "dev")
    with_visits(installation18).result("apply_migration", "--env", "dev", "--no-backup")
    installation18.result("init_db", "--env", "test")
    assert installation18.sql("dev", "SELECT count(*) FROM public.visits_visit") == 100
    installation18.sql("test", """INSERT INTO public.django_migrations (app, name, applied)
                                   VALUES ('visits', '0099_from_a_branch', now())""")  # fmt: skip
    installation18.variables["PROD_DATABASE_URL"] = "postgresql://x:y@127.0.0.1:9/prod"
    result = installation18.result("show_migrations")
    shown = {it["migration"]: it for it in result["migrations"]}
    assert list(result["unreachable"]) == ["prod"]
    assert all(it["environments"]["dev"]["applied"] for it in result["migrations"][:-1])
    first = shown[LAST]["environments"]
    assert first["dev"]["by"] == first["test"]["by"] is not None
    assert first["dev"]["at"].startswith("20")
    foreign = shown["visits.0099_from_a_branch"]
    assert foreign["known"] is False
    assert foreign["environments"]["dev"] == {"applied": False, "at": None, "by": None}
    assert foreign["environments"]["test"]["by"] is None
    assert not any(label.startswith("dbops.") for label in shown), "these are control's"
    text = installation18.run("show_migrations")
    assert "visits.0099_from_a_branch (not in this code)" in text.out
    assert "prod cannot be reached" in text.err
    assert installation18.refused("show_migrations", "--env", "nowhere", code=2)


def test_several_latest_ones_are_refused_by_name(installation18: Installation) -> None:
    with_visits(ready(installation18), "forked")
    for command in (("apply_migration", "--env", "dev"), ("create_migration", "-m", "more")):
        error = installation18.refused(*command)
        assert "visits: 0004_left, 0004_right" in error["message"]
        assert "makemigrations --merge" in error["hint"]


def test_writing_migrations(installation18: Installation, tmp_path: Path) -> None:
    """Into a directory of the test's own: what MIGRATION_MODULES names."""
    ready(installation18)
    package = tmp_path / "written"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from tests.visits import migrations\n__path__ = [*__path__, *migrations.__path__]\n"
    )
    installation18.variables |= {"VISITS": "written", "PYTHONPATH": str(tmp_path)}
    result = installation18.result("create_migration", "-m", "Wards: número 2!", "--app", "visits")
    assert result["migrations"] == ["visits.0004_wards_numero_2"]
    assert (
        "AddIndex" in (package / "0004_wards_numero_2.py").read_text()
        or "AlterField" in (package / "0004_wards_numero_2.py").read_text()
    )
    unchanged = installation18.result("create_migration", "-m", "nothing new")
    assert (unchanged["migrations"], unchanged["files"]) == ([], [])
    assert "Nothing changed" in installation18.run("create_migration", "-m", "nothing").out
    empty = installation18.result("create_migration", "-m", "by hand", "--empty", "--app", "visits")
    assert empty["migrations"] == ["visits.0005_by_hand"]
    assert installation18.refused("create_migration", "-m", "x", "--empty", code=2)
    assert installation18.refused("create_migration", "-m", "x", "--app", "nobody", code=2)
    assert installation18.refused("create_migration", "-m", "!!", code=2)
    done = installation18.result("apply_migration", "--env", "dev", "--no-backup")["migrations"]
    assert done[-2:] == ["visits.0004_wards_numero_2", "visits.0005_by_hand"]


def test_an_older_backup_under_newer_code(installation18: Installation) -> None:
    """It tells what is pending; --migrate applies that before the swap."""
    without_visits(ready(installation18))
    name = installation18.result("dbbackup", "-d", "dev")["name"]
    with_visits(installation18)
    back = installation18.result("dbrestore", "-d", "dev", "-i", name, "--noinput")
    assert (back["pending_migrations"], back["migrations"]) == (COMMON, [])
    told = installation18.run("dbrestore", "-d", "dev", "-i", name, "--noinput").err
    assert "python manage.py apply_migration --env dev" in told
    on = installation18.result("dbrestore", "-d", "dev", "-i", name, "--noinput", "--migrate")
    assert (on["pending_migrations"], on["migrations"]) == ([], COMMON)
    assert installation18.sql("dev", "SELECT count(*) FROM public.visits_visit") == 100
    installation18.result("verify_triggers", "--env", "dev")
    before = state(installation18)
    with_visits(installation18, "failing")
    error = installation18.refused("dbrestore", "-d", "dev", "-i", name, "--noinput", "--migrate")
    assert "visits.0004_half_way failed" in error["message"]
    assert state(installation18) == before


def test_a_backup_of_another_branch(installation18: Installation) -> None:
    """Its migrations are named before the target is touched; --unknown-migrations insists."""
    migrated(installation18)
    installation18.sql("dev", """INSERT INTO public.django_migrations (app, name, applied)
                                  VALUES ('visits', '0004_elsewhere', now()),
                                         ('sold', '0001_initial', now())""")  # fmt: skip
    name = installation18.result("dbbackup", "-d", "dev")["name"]
    installation18.sql("dev", "DELETE FROM public.django_migrations WHERE name = '0004_elsewhere'")
    before = installation18.hashes("dev")
    command = ("dbrestore", "-d", "dev", "-i", name, "--noinput")
    error = installation18.refused(*command)
    assert error["code"] == "unknown_migrations"
    assert "visits.0004_elsewhere." in error["message"]
    assert "sold" not in error["message"]
    assert installation18.hashes("dev") == before
    installation18.result(*command, "--unknown-migrations")
    # The target records it now, and this code lives with that.
    installation18.result(*command)


def test_pagila_taken_in_and_migrated(installation18: Installation, shared_data: Path) -> None:
    pagila = str(shared_data / "pagila/pagila.dump")
    installation18.result("dbrestore", "-I", pagila, "-d", "dev", "--noinput")
    installation18.sql("dev", "DROP SCHEMA IF EXISTS skinspire CASCADE")
    rows = installation18.hashes("dev")
    assert installation18.result("init_db", "--env", "dev", "--adopt")["adopted"]
    with_visits(installation18, "concurrent")
    rehearsal = installation18.result("apply_migration", "--env", "dev", "--rehearse")["rehearsal"]
    assert all(step["rolls_back"] for step in rehearsal["migrations"]), rehearsal
    result = installation18.result("apply_migration", "--env", "dev")
    assert result["migrations"] == [*COMMON, "visits.0004_index"]
    after = installation18.hashes("dev")
    assert {name: after[name] for name in rows} == rows


def test_what_is_kept_of_a_migration_is_no_older_operation(installation18: Installation) -> None:
    """Undo passes over nothing, and the backup stays while it is what could be put back."""
    installation18.variables["BACKUP_RETENTION"] = "daily=1,weekly=0,monthly=0"
    for name in ("dev", "test"):
        installation18.run("init_db", "--env", name)
    installation18.run("reset_db", "--env", "dev", "--noinput")
    undone = installation18.run(
        "rollback_migration", "--steps", "1", "--env", "test", "--noinput", "--json"
    ).json
    saved = undone["result"]["saved_as"]
    too_many = installation18.refused(
        "rollback_migration", "--steps", "999", "--env", "test", "--noinput"
    )
    assert "migrations are applied in test, not 999" in too_many["message"]
    error = installation18.refused("undo_operation", "--noinput")
    assert undone["operation"]["id"] in error["message"]
    assert saved in error["hint"]
    installation18.run("dbbackup", "-d", "test")
    installation18.run("prune_backups", "--noinput")
    names = [it["name"] for it in installation18.result("listbackups", "-d", "test")["backups"]]
    assert saved in names
    wrong = installation18.refused("undo_operation", "--noinput", "--confirm", "prod")
    assert "was one on test, not on prod" in wrong["message"]
    back = installation18.run("undo_operation", "--env", "dev", "--noinput", "--json").json
    assert back["operation"]["target"] == "dev"


def test_an_undo_passes_over_no_migration(installation18: Installation) -> None:
    """What was migrated where it stands keeps no database: the copy before it is not undone in its
    place."""
    ready(installation18)
    installation18.result("init_db", "--env", "test")
    copied = installation18.run("copy_db", "test", "dev", "--noinput", "--json").json["operation"]
    installation18.sql("dev", "DELETE FROM public.django_migrations WHERE app = 'visits'")
    installation18.sql("dev", "DROP TABLE public.visits_visit, public.visits_ward CASCADE")
    installation18.result("apply_migration", "--env", "dev", "--no-backup")
    before = state(installation18)
    error = installation18.refused("undo_operation", "--noinput")
    assert error["code"] == "nothing_to_undo"
    assert "rollback_migration --steps 3 --env dev" in error["hint"]
    assert state(installation18) == before
    installation18.result("undo_operation", copied["id"], "--noinput")


def test_killed_between_the_commit_and_its_record(installation18: Installation) -> None:
    """The sweep does not claim that nothing was done: it cannot know."""
    ready(installation18)
    with session(installation18.databases["dev"]) as holder:
        execute(holder, "BEGIN; LOCK TABLE public.django_content_type IN SHARE MODE")
        process = installation18.start("apply_migration", "--env", "dev", "--no-backup",
                                       "--lock-timeout", "60")  # fmt: skip
        _line_about(process, "Waiting for public.django_content_type, held by ")
        control = sqlite3.connect(installation18.home / "control.sqlite3", isolation_level=None)
        control.execute("BEGIN IMMEDIATE")
        execute(holder, "ROLLBACK")
        applied = "SELECT count(*) = 3 FROM public.django_migrations WHERE app = 'visits'"
        wait_for(lambda: installation18.sql("dev", applied))
        process.kill()
        process.wait()
        control.close()
    (swept,) = installation18.result("operations", "sweep")["interrupted"]
    shown = installation18.run("operations", "show", swept).out
    assert "all of it is done, or nothing" in shown
    assert "as it was" not in shown


def test_init_db_does_all_or_nothing(installation18: Installation) -> None:
    """Migrations are fine, then the triggers are refused: no stamp and no table is left."""
    superuser = replace(
        installation18.server.superuser, database=installation18.databases["dev"].database
    )
    with session(superuser) as connection:
        execute(connection, "CREATE SCHEMA theirs; CREATE TABLE theirs.notes (updated_at date)")
    error = installation18.refused("init_db", "--env", "dev", "--adopt")
    assert "theirs.notes" in error["message"]
    found = (
        "SELECT coalesce(to_regclass('public.django_migrations'), to_regclass('skinspire.stamp'))"
    )
    assert installation18.sql("dev", found) is None
