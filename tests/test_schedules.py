"""Operations that come again: once each time, whoever ticks, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.test import Client

from dbops.exceptions import UsageError
from dbops.models import Operation, Schedule
from dbops.postgres.connection import execute, session
from dbops.postgres.locks import database_lock
from dbops.schedules import next_time
from tests.faults import (
    add_slow_index,
    assert_nothing_left,
    locked,
    prepare,
    tools_left,
    wait_for,
)
from tests.installation import REPOSITORY, Installation
from tests.servers import Server

RARELY = "0 0 29 2 *"  # not while a test runs
NOW = datetime(2026, 3, 28, 12, 30, 15, 7, tzinfo=UTC)


@pytest.fixture
def ready(installation18: Installation) -> Installation:
    """test holds two tables and has one backup; dev is empty."""
    return prepare(installation18)


def add(installation: Installation, *arguments: str) -> dict[str, Any]:
    (added,) = installation.result("schedule", "add", *arguments)["schedules"]
    return added  # type: ignore[no-any-return]


def planned(installation: Installation) -> list[dict[str, Any]]:
    return installation.result("schedule", "list")["schedules"]  # type: ignore[no-any-return]


def operations(installation: Installation, kind: str) -> list[dict[str, Any]]:
    done = installation.result("operations", "--limit", "100")["operations"]
    return [it for it in done if it["kind"] == kind]


def pass_time(installation: Installation, only: str = "true") -> None:
    """Every schedule's time came long ago, many times over."""
    with closing(sqlite3.connect(installation.home / "control.sqlite3", timeout=30)) as control:
        control.execute(
            f"UPDATE dbops_schedule SET next_due_at = '2020-01-01 00:00:00' WHERE {only}"
        )
        control.commit()


def journalled(installation: Installation, event: str) -> list[dict[str, Any]]:
    lines = (installation.home / "journal.jsonl").read_text().splitlines()
    return [it for it in map(json.loads, lines) if it["event"] == event]


def run_due(installation: Installation, code: int = 0) -> list[dict[str, Any]]:
    answer = installation.run("schedule", "run-due", "--json", code=code).json
    assert ("error" in answer) == (code != 0)
    return answer["result"]["schedules"]  # type: ignore[no-any-return]


# When


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 3 * * *", "2026-03-29T03:00"),
        ("*/15 * * * *", "2026-03-28T12:45"),
        ("30 12 * * *", "2026-03-29T12:30"),  # this minute has begun
        ("30 2 29 3 *", "2026-03-29T02:30"),  # the hour that Berlin skips
        ("30 2 25 10 *", "2026-10-25T02:30"),  # and the one that comes twice
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 4 * * sun", "2026-03-29T04:00"),
        ("0 4 1 * mon", "2026-03-30T04:00"),  # as crontab(5): one or the other
    ],
)
def test_the_next_time_is_utc(cron: str, expected: str) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    for now in (NOW, NOW.astimezone(east)):
        assert next_time(cron, now).isoformat() == f"{expected}:00+00:00"


@pytest.mark.parametrize(
    "cron",
    ["", "x", "0 3 * *", "* * * * * *", "0 0 1 1 * 0 2030", "@reboot", "@daily", "61 * * * *",
     "-1 * * * *", "*/0 * * * *", "0 3 * * mon#6", "r * * * *", "h(0-9) 3 * * *", "٣ 3 * * *",
     "0\u00a03 * * * *", "1," * 60 + "1 * * * *", "a" * 100_000],
)  # fmt: skip
def test_what_is_no_cron_expression(cron: str) -> None:
    with pytest.raises(UsageError, match="is not a cron expression") as told:
        next_time(cron, NOW)
    assert len(str(told.value)) < 300


@pytest.mark.parametrize("cron", ["0 0 31 2 *", "0 0 31 4,6,9,11 *"])
def test_a_day_that_never_comes(cron: str) -> None:
    with pytest.raises(UsageError, match="never comes"):
        next_time(cron, NOW)


# What may be planned


def test_wrong_usage_plans_nothing(installation18: Installation) -> None:
    def wrong(*arguments: str) -> str:
        return str(installation18.refused("schedule", "add", *arguments, code=2)["message"])

    assert "not a cron" in wrong("backup", "@reboot", "--source", "dev")
    assert "never comes" in wrong("backup", "0 0 31 2 *", "--source", "dev")
    assert "Unknown environment" in wrong("backup", "0 3 * * *", "--source", "tset")
    for arguments in (
        ["add", "restore", "0 3 * * *", "--source", "dev"],
        ["add", "backup", "0 3 * * *"],
        ["add", "copy", "0 3 * * *", "--source", "dev"],
        ["add", "backup", "0 3 * * *", "--source", "dev", "--exclude", "x"],
        ["remove"],
        ["remove", "x"],
    ):
        installation18.run("schedule", *arguments, code=2)
    assert planned(installation18) == []


def test_what_copy_db_refuses_is_not_planned(installation18: Installation) -> None:
    copy = ("schedule", "add", "copy", "0 3 * * *")
    onto = installation18.refused(*copy, "--source", "test", "--target", "testing")
    assert onto["code"] == "same_database"
    into = installation18.refused(*copy, "--source", "test", "--target", "prod")
    assert "not allowed" in into["message"]
    out = (*copy, "--source", "prod", "--target", "dev", "--no-mask")
    installation18.variables["DBOPS_ALLOW_UNMASKED"] = "false"
    assert installation18.refused(*out)["code"] == "refused"
    assert planned(installation18) == []
    assert len(journalled(installation18, "refused")) == 3
    del installation18.variables["DBOPS_ALLOW_UNMASKED"]
    (added,) = installation18.result(*out)["schedules"]
    assert added["options"]["unmasked"] is True


def test_a_protected_target_is_confirmed_once_and_remembered(ready: Installation) -> None:
    ready.variables["DBOPS_ALLOW_COPY_TO_PROD"] = "true"
    arguments = ("copy", "0 3 * * *", "--source", "test", "--target", "prod")
    refused = ready.refused("schedule", "add", *arguments)
    assert refused["code"] == "not_confirmed"
    assert ready.refused("schedule", "add", *arguments, "--confirm", "dev") == refused
    add(ready, *arguments, "--confirm", "prod")
    pass_time(ready)
    (run,) = run_due(ready)
    assert run["operation"]["status"] == "succeeded"
    assert ready.hashes("prod") == ready.hashes("test")
    # What is allowed is asked again each time, and a refusal recorded as any other.
    del ready.variables["DBOPS_ALLOW_COPY_TO_PROD"]
    pass_time(ready)
    (run,) = run_due(ready, code=1)
    assert run["operation"] is None
    assert run["error"]["code"] == "refused"
    assert "not allowed" in run["last_error"]
    assert journalled(ready, "refused")[-1]["actor"].startswith("schedule 1 (added by ")
    assert len(operations(ready, "copy")) == 1


def test_listed_removed_and_known_who_did_it(installation18: Installation) -> None:
    assert "Nothing is planned" in installation18.run("schedule").err
    first = add(installation18, "backup", "0  2 * * *", "--source", "production", "--checksums")
    second = add(installation18, "prune", "0 5 * * *")
    assert (first["cron"], first["source"], first["options"]) == (
        "0 2 * * *", "prod", {"checksums": True},
    )  # fmt: skip
    assert datetime.fromisoformat(first["next_due_at"]) > datetime.now(UTC)
    assert planned(installation18) == [first, second]
    assert installation18.run("schedule", "--json").json["result"]["schedules"] == [first, second]
    text = installation18.run("schedule", "list").out
    assert "0 2 * * *" in text
    assert "02:00 UTC" in text
    assert "from now" in text
    assert "never" in text
    removed = installation18.result("schedule", "remove", str(first["id"]))["schedules"]
    assert removed == [first]
    assert installation18.refused("schedule", "remove", "1")["code"] == "schedule_not_found"
    assert installation18.refused("schedule", "remove", "9" * 30)["code"] == "schedule_not_found"
    assert planned(installation18) == [second]
    pass_time(installation18)
    assert [run["id"] for run in run_due(installation18)] == [second["id"]]
    assert installation18.result("operations", "sweep")["journal_problems"] == []
    entries = journalled(installation18, "scheduled") + journalled(installation18, "unscheduled")
    assert [entry["details"]["schedule"] for entry in entries] == [1, 2, 1]
    assert {entry["actor"] for entry in entries} == {first["created_by"]}
    assert entries[2]["details"]["cron"] == "0 2 * * *"


# What is due


def test_what_was_missed_is_run_once(ready: Installation) -> None:
    add(ready, "backup", "* * * * *", "--source", "test")
    later = add(ready, "backup", RARELY, "--source", "test")
    pass_time(ready, only="id = 1")
    before = datetime.now(UTC)
    (run,) = run_due(ready)
    assert run["operation"]["kind"] == "backup"
    assert run["operation"]["actor"] == f"schedule 1 (added by {run['created_by']})"
    assert run["last_operation"] == run["operation"]["id"]
    assert run["last_status"] == "succeeded"
    assert datetime.fromisoformat(run["last_run_at"]) >= before
    assert before < datetime.fromisoformat(run["next_due_at"]) < before + timedelta(minutes=3)
    assert planned(ready) == [{key: run[key] for key in later}, later]
    assert len(operations(ready, "backup")) == 2, "the one of before, and this"
    assert " ago" in ready.run("schedule", "list").out


def test_where_nothing_is_due_nothing_is_said(ready: Installation) -> None:
    add(ready, "backup", RARELY, "--source", "test")
    answer = ready.run("schedule", "run-due")
    assert (answer.out, answer.err) == ("", "")
    assert run_due(ready) == []


def test_a_drill_takes_the_latest_backup_and_pruning_follows(ready: Installation) -> None:
    add(ready, "verify", RARELY, "--source", "test")
    add(ready, "prune", RARELY, "--env", "test")
    latest = ready.result("dbbackup", "-d", "test")["name"]
    pass_time(ready)
    drill, pruning = run_due(ready)
    assert drill["operation"]["target"] == "test"
    assert pruning["operation"]["kind"] == "prune"
    (kept,) = ready.result("listbackups")["backups"]  # the day's newest
    assert (kept["name"], kept["verified_how"]) == (latest, "full")
    assert_nothing_left(ready)


def test_one_that_fails_does_not_stop_the_next(ready: Installation) -> None:
    add(ready, "verify", RARELY, "--source", "prod")  # of which there is no backup
    add(ready, "backup", RARELY, "--source", "dev")  # which is not there any more
    add(ready, "backup", RARELY, "--source", "test")
    ready.server.drop_database(ready.databases["dev"].database)
    pass_time(ready)
    answer = ready.run("schedule", "run-due", "--json", code=1)
    assert "2 of 3" in answer.json["error"]["message"]
    drill, away, good = answer.json["result"]["schedules"]
    assert drill["operation"] is None
    assert "no backup of prod" in drill["error"]["message"]
    assert drill["last_status"] == "failed"
    assert away["operation"]["status"] == away["last_status"] == "failed"
    assert away["error"]["message"]
    assert good["operation"]["status"] == "succeeded"
    assert good["error"] is None
    assert run_due(ready) == [], "each is tried again at its next time"
    ready.server.create_database(ready.databases["dev"].database)
    pass_time(ready)
    text = ready.run("schedule", "run-due", code=1)
    assert "3: back up test" in text.out
    assert "no backup of prod" in text.err
    assert planned(ready)[0]["last_error"] == "There is no backup of prod."


def test_what_another_operation_holds_is_tried_again_at_its_next_time(ready: Installation) -> None:
    add(ready, "copy", RARELY, "--source", "test", "--target", "dev")
    before = ready.hashes("dev")
    pass_time(ready)
    with database_lock(ready.databases["dev"], operation="0" * 12, exclusive=True):
        (run,) = run_due(ready, code=1)
    assert run["error"]["code"] == "locked"
    assert run["last_status"] == "failed"
    assert datetime.fromisoformat(run["next_due_at"]) > datetime.now(UTC)
    assert ready.hashes("dev") == before
    pass_time(ready)
    (run,) = run_due(ready)
    assert run["last_status"] == "succeeded"


# Two at a time, and none at all


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(
    request: pytest.FixtureRequest, installation18: Installation, server18: Server
) -> Iterator[tuple[Installation, Any]]:
    """An installation with either control database, and how to make everything due in it."""
    if request.param == "sqlite":
        yield installation18, lambda: pass_time(installation18)
        return
    control = server18.create_database()
    installation18.variables["CONTROL_DATABASE_URL"] = server18.url(control.database)
    installation18.run("migrate", "--database=control", "--verbosity=0")

    def pass_time_there() -> None:
        with session(control) as connection:
            execute(connection, "UPDATE public.dbops_schedule SET next_due_at = '2020-01-01'")

    yield installation18, pass_time_there
    server18.drop_database(control.database)


def test_two_that_tick_at_once_run_each_once(shared: tuple[Installation, Any]) -> None:
    installation, make_due = shared
    ids = [add(installation, "prune", RARELY)["id"] for _ in range(5)]
    make_due()
    processes = [installation.start("schedule", "run-due", "--json") for _ in range(3)]
    ran = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        ran += [run["id"] for run in json.loads(out)["result"]["schedules"]]
    assert sorted(ran) == ids
    assert len(operations(installation, "prune")) == len(ids)
    assert installation.result("operations", "sweep")["journal_problems"] == []


def _script(installation: Installation, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, check=False, capture_output=True, text=True,
        env={**installation.environment, "DJANGO_SETTINGS_MODULE": "skinspire.settings"},
    )  # fmt: skip


_DIE_BEFORE_IT_BEGINS = """
import os, signal
import django; django.setup()
from dbops import runner, schedules
runner.submit = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
schedules.run_due()
"""


def test_a_process_that_dies_before_it_begins_does_not_come_again(ready: Installation) -> None:
    add(ready, "backup", RARELY, "--source", "test")
    pass_time(ready)
    died = _script(ready, _DIE_BEFORE_IT_BEGINS)
    assert died.returncode == -signal.SIGKILL
    assert run_due(ready) == []
    (schedule,) = planned(ready)
    assert schedule["last_status"] == "failed"
    assert "died before it began" in schedule["last_error"]
    pass_time(ready)
    (run,) = run_due(ready)
    assert (run["last_status"], run["last_error"]) == ("succeeded", None)


def test_a_process_that_dies_at_work_does_not_come_again(ready: Installation) -> None:
    add(ready, "backup", RARELY, "--source", "test")
    pass_time(ready)
    with locked(ready):
        process = ready.start("schedule", "run-due")
        wait_for(lambda: planned(ready)[0]["last_status"] == "running", pause=0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert run_due(ready) == []
    pass_time(ready)
    (run,) = run_due(ready)
    assert run["operation"]["status"] == "succeeded"
    assert [it["status"] for it in operations(ready, "backup")][:2] == ["succeeded", "interrupted"]
    wait_for(lambda: not tools_left(ready))


def test_a_slow_one_does_not_pile_up(ready: Installation) -> None:
    add(ready, "backup", "* * * * *", "--source", "test")
    pass_time(ready)
    with locked(ready):
        process = ready.start("schedule", "run-due")
        wait_for(lambda: planned(ready)[0]["last_status"] == "running", pause=0.2)
        pass_time(ready)
        (run,) = run_due(ready, code=1)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert run["operation"] is None
    assert "still goes on" in run["error"]["message"]
    assert len(operations(ready, "backup")) == 2
    pass_time(ready)
    (run,) = run_due(ready)
    assert run["last_status"] == "succeeded"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_this_one_and_starts_no_other(
    ready: Installation, number: int, code: int
) -> None:
    add(ready, "backup", RARELY, "--source", "test")
    add(ready, "prune", RARELY)
    pass_time(ready)
    with locked(ready):
        process = ready.start("schedule", "run-due", "--json")
        wait_for(lambda: planned(ready)[0]["last_status"] == "running", pause=0.2)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert json.loads(out)["error"]["code"] == "cancelled"
    first, second = planned(ready)
    assert first["last_status"] == "cancelled"
    assert second["last_run_at"] is None
    assert_nothing_left(ready)
    assert [run["id"] for run in run_due(ready)] == [second["id"]]


def test_a_cancelled_one_lets_the_next_begin(ready: Installation) -> None:
    add_slow_index(ready, 300)
    add(ready, "copy", RARELY, "--source", "test", "--target", "dev", "--strategy", "dump")
    add(ready, "prune", RARELY)
    before = ready.hashes("dev")
    pass_time(ready)
    process = ready.start("schedule", "run-due", "--json")
    wait_for(lambda: planned(ready)[0]["last_status"] == "running", pause=0.2)
    ready.run("operations", "cancel", planned(ready)[0]["last_operation"])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    copy, pruning = json.loads(out)["result"]["schedules"]
    assert copy["operation"]["status"] == "cancelled"
    assert pruning["operation"]["status"] == "succeeded"
    assert ready.hashes("dev") == before


_HEARD_TOO_LATE = """
import signal
import django; django.setup()
from dbops import runner, schedules
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started us may ignore it
runner.run = lambda operation, listener: runner.Outcome(operation, {}, signal.SIGINT)
try:
    schedules.run_due()
except KeyboardInterrupt:
    print("stopped")
"""


def test_a_signal_too_late_for_this_one_still_starts_no_other(ready: Installation) -> None:
    for _ in range(2):
        add(ready, "prune", RARELY)
    pass_time(ready)
    assert _script(ready, _HEARD_TOO_LATE).stdout == "stopped\n"
    assert [it["last_run_at"] is None for it in planned(ready)] == [False, True]


@pytest.mark.django_db(databases=["default", "control"])
def test_the_console_shows_them_and_changes_none(admin_client: Client) -> None:
    own = {"cron": RARELY, "created_by": "ada", "next_due_at": NOW, "last_run_at": NOW}
    done = Operation.objects.create(kind="backup", source="prod", actor="x", status="succeeded")
    made = Schedule.objects.create(kind="backup", source="prod", last_operation=done, **own)
    Schedule.objects.create(kind="prune", last_error="There is <no> room.", **own)
    pages = "/admin/dbops/schedule/"
    page = admin_client.get(pages).content.decode()
    assert f"/admin/dbops/operation/{done.pk}/change/" in page
    assert "There is &lt;no&gt; room." in page
    assert admin_client.get(f"{pages}{made.pk}/change/").status_code == 200
    for verb in ("change", "delete"):
        assert admin_client.post(f"{pages}{made.pk}/{verb}/", {"post": "yes"}).status_code == 403
    assert admin_client.post(f"{pages}add/").status_code == 403
    assert Schedule.objects.count() == 2
