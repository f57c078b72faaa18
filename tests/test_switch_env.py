"""switch_env and show_db_config: who decides, what a switch needs, that nothing secret shows."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.stamp import write_stamp
from skinspire.environment import FILE_NAME, NewFile
from tests.installation import Installation
from tests.test_environment import GOOD_KEY

CANARY = "c4n4ry"


@pytest.fixture
def free(installation18: Installation) -> Installation:
    """An installation where the file decides."""
    installation18.variables |= {"SKINSPIRE_ENV": "", "SECRET_KEY": GOOD_KEY,
                                 "ALLOWED_HOSTS": "x.org"}  # fmt: skip
    for name, params in installation18.databases.items():
        with session(params) as connection:
            write_stamp(connection, name)
    return installation18


def _switches(installation: Installation) -> list[dict[str, Any]]:
    lines = (installation.home / "journal.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["event"] == "environment switched"]


def test_a_switch_is_written_recorded_and_done_once(free: Installation) -> None:
    assert free.result("switch_env")["environment"] == "dev"
    answer = free.run("switch_env", "testing", "--json")
    result = answer.json["result"]
    assert {"environment", "source", "url"} <= set(result)
    assert (result["environment"], result["previous"], result["changed"]) == ("test", "dev", True)
    assert result["url"].endswith(f"/{free.databases['test'].database}")
    assert free.databases["test"].password not in answer.out + answer.err
    assert (free.home / FILE_NAME).read_text() == "test\n"
    (entry,) = _switches(free)
    assert entry["details"] == {"from": "dev", "to": "test"}
    assert entry["actor"]
    again = free.result("switch_env", "test")
    assert again["changed"] is False
    assert len(_switches(free)) == 1
    assert free.result("operations", "sweep")["journal_problems"] == []
    assert free.result("switch_env", "--expect", "test")["stamp"] == "test"
    assert "restarted" in free.run("switch_env", "dev").err


def test_a_protected_environment_needs_its_name_typed(free: Installation) -> None:
    error = free.refused("switch_env", "prod")
    assert error["code"] == "not_confirmed"
    assert "--confirm prod" in error["hint"]
    assert not (free.home / FILE_NAME).exists()
    assert free.result("switch_env", "prod", "--confirm", "prod")["environment"] == "prod"
    assert free.result("switch_env", "prod")["changed"] is False


def test_where_nothing_can_run_is_told_and_the_way_back_is_recorded_soundly(
    installation18: Installation,
) -> None:
    installation18.variables |= {"SKINSPIRE_ENV": ""}  # and production has no key
    for name, params in installation18.databases.items():
        with session(params) as connection:
            write_stamp(connection, name)
    there = installation18.run("switch_env", "prod", "--confirm", "prod")
    assert "dbops.E011, dbops.E012" in there.err
    assert "Back: python manage.py switch_env dev" in there.err
    installation18.run("check_db", code=1)
    installation18.run("switch_env", "dev")
    assert installation18.result("operations", "sweep")["journal_problems"] == []


def test_a_switch_without_effect_is_refused(free: Installation) -> None:
    free.variables["SKINSPIRE_ENV"] = "development"
    error = free.refused("switch_env", "test")
    assert error["code"] == "other_environment"
    assert "SKINSPIRE_ENV" in error["message"]
    assert "no effect" in error["message"]
    assert not (free.home / FILE_NAME).exists()
    free.variables["SKINSPIRE_ENV"] = "test"
    result = free.result("switch_env", "test")  # for those who come without the variable
    assert any("SKINSPIRE_ENV" in note for note in result["notes"])
    assert (free.home / FILE_NAME).read_text() == "test\n"


def test_where_the_target_is_wrong_nothing_is_switched(free: Installation) -> None:
    """A stamp of another environment and a malformed URL refuse; silence is told."""
    with session(free.databases["test"]) as connection:
        write_stamp(connection, "prod")
    assert free.refused("switch_env", "test")["code"] == "stamp_mismatch"
    free.variables["TEST_DATABASE_URL"] = f"postgresql://a:{CANARY}@h:nothing/d"
    error = free.refused("switch_env", "test")
    assert (error["code"], CANARY in str(error)) == ("configuration", False)
    assert not (free.home / FILE_NAME).exists()
    free.variables["TEST_DATABASE_URL"] = f"postgresql://a:{CANARY}@127.0.0.1:1/d"
    result = free.result("switch_env", "test")
    assert any("cannot be reached" in note for note in result["notes"])
    assert CANARY not in str(result)


def test_a_journal_that_cannot_be_written_stops_the_switch(free: Installation) -> None:
    (free.home / "control.sqlite3").unlink()
    free.refused("switch_env", "test")
    assert sorted(path.name for path in free.home.glob("*environment*")) == []


def test_out_of_an_environment_that_nobody_knows(free: Installation) -> None:
    (free.home / FILE_NAME).write_text("prodd\n")
    status = free.result("switch_env", "--status")
    assert (status["environment"], status["next"]) == ("unknown", None)
    assert [it["id"] for it in status["problems"]] == ["dbops.E001"]
    assert free.run("dbbackup", code=1)
    free.result("switch_env", "dev")
    assert _switches(free)[0]["details"] == {"from": "unknown", "to": "dev"}
    assert free.result("switch_env", "--expect", "dev")


def test_expect_tells_every_difference(free: Installation) -> None:
    error = free.run("switch_env", "--expect", "prod", "--json", code=1).json
    assert "the environment is dev" in error["error"]["message"]
    assert "is stamped dev" in error["error"]["message"]
    assert error["result"]["environment"] == "dev"
    with session(free.databases["dev"]) as connection:
        write_stamp(connection, "test")
    assert "is stamped test" in free.refused("switch_env", "--expect", "dev")["message"]
    free.sql("dev", "DROP SCHEMA skinspire CASCADE")
    assert "bears no stamp" in free.refused("switch_env", "--expect", "dev")["message"]
    free.variables["DEV_DATABASE_URL"] = f"postgresql://a:{CANARY}@127.0.0.1:1/d"
    message = free.refused("switch_env", "--expect", "dev")["message"]
    assert ("cannot be reached" in message, CANARY in message) == (True, False)


def test_two_wishes_at_once_are_wrong_usage(free: Installation) -> None:
    for arguments in (["dev", "--status"], ["dev", "--expect", "dev"], ["--expect", ""], [""]):
        assert free.refused("switch_env", *arguments, code=2)


def test_status_tells_what_decides_and_what_is_overridden(free: Installation) -> None:
    (free.home / FILE_NAME).write_text("test\n")
    free.variables |= {"DJANGO_ENV": "prod"}
    found = free.result("switch_env", "--status")
    assert [(it["says"], it["decides"]) for it in found["sources"]] == [
        ("", False), ("test", True), ("prod", False),
    ]  # fmt: skip
    free.variables["SKINSPIRE_ENV"] = "dev"
    found = free.result("switch_env", "--status")
    assert (found["environment"], found["source"]) == ("dev", "SKINSPIRE_ENV")
    assert [it["decides"] for it in found["sources"]] == [True, False, False]
    assert {it["name"]: (it["reachable"], it["stamp"], it["origin"])
            for it in found["environments"]} == {
        name: (True, name, "process") for name in ("dev", "test", "prod")
    }  # fmt: skip


def test_a_running_operation_stays_where_it_began(free: Installation) -> None:
    """A switch in its middle leads it nowhere else: settings are read when a process starts."""
    free.sql("dev", "CREATE TABLE public.slow AS SELECT 1 AS id")
    with session(free.databases["dev"]) as holder:
        execute(holder, "BEGIN")
        execute(holder, "LOCK TABLE public.slow IN ACCESS EXCLUSIVE MODE")
        process = free.start("dbbackup", "--json")
        _wait_for_lock(free)
        free.result("switch_env", "test")
        execute(holder, "ROLLBACK")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["operation"]["source"] == "dev"
    assert json.loads(out)["result"]["name"].startswith("dev-")
    assert free.result("dbbackup")["name"].startswith("test-")


def _wait_for_lock(installation: Installation) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = %s"
    deadline = time.monotonic() + 30
    with session(installation.databases["dev"]) as connection:
        oid = fetch_value(
            connection, "SELECT oid FROM pg_database WHERE datname = current_database()"
        )
        while not fetch_value(connection, waiting, [oid]):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_file_that_is_not_put_in_place_is_gone(tmp_path: Path) -> None:
    with NewFile(tmp_path, "test"):
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []
    with NewFile(tmp_path, "test") as file:
        file.put_in_place()
    assert os.listdir(tmp_path) == [FILE_NAME]


@pytest.fixture
def secretive(free: Installation) -> Installation:
    """A canary in every secret there is."""
    port = free.server.params.port
    (free.home / "key").write_text(f"{CANARY}-{GOOD_KEY}")
    free.variables |= {
        "DEV_DATABASE_URL": f"postgresql://a:{CANARY}@127.0.0.1:{port}/d?sslpassword={CANARY}",
        "TEST_DATABASE_URL": f"postgresql://127.0.0.1:{port}/t?user=a&password={CANARY}",
        "PROD_DATABASE_URL": f"postgresql://a:{CANARY}@127.0.0.1:1/p?passfile=/{CANARY}",
        "SECRET_KEY": "",
        "SECRET_KEY_FILE": str(free.home / "key"),
        "SECRET_KEY_FALLBACKS": f"{CANARY},{CANARY}2",
        "BACKUP_STORAGE_URL": "s3://bucket?endpoint_url=http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": CANARY,
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "AWS_SESSION_TOKEN": CANARY,
        "BACKUP_IDENTITY": CANARY,
        "BACKUP_GPG_PASSPHRASE": CANARY,
        "MASKING_KEY": CANARY,
    }
    return free


def test_no_secret_is_ever_shown(secretive: Installation) -> None:
    """Not by what shows settings, nor by what finds them wrong."""
    for arguments in (
        ["show_db_config"], ["show_db_config", "--json"], ["switch_env", "test"],
        ["switch_env", "--expect", "dev", "--json"], ["check"], ["dbbackup", "--traceback"],
    ):  # fmt: skip
        process = secretive.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert CANARY not in out + err, arguments


def test_show_db_config_tells_where_values_come_from(secretive: Installation) -> None:
    found = secretive.result("show_db_config", "--env", "prod")
    shown = {it["name"]: (it["value"], it["origin"]) for it in found["settings"]}
    assert shown["SECRET_KEY"] == ("***", "file named by SECRET_KEY_FILE (process)")
    assert shown["MASKING_KEY"] == ("***", "process")
    assert shown["DBOPS_KEEP_PREVIOUS_DAYS"] == ("7", "default")
    assert shown["PROD_DATABASE_URL"][0] == "postgresql://a:***@127.0.0.1:1/p?passfile=***"
    assert "DEV_DATABASE_URL" not in shown
    assert [it["name"] for it in found["environments"]] == ["prod"]
