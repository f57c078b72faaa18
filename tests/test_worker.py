"""Operations in the background: the same outcome as inline, and no row that runs for ever."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.faults import add_slow_index
from tests.installation import REPOSITORY, Installation

_SUBMIT = """
import django, sys; django.setup()
from dbops import tasks
for _ in range(int(sys.argv[4])):
    operation = tasks.submit_and_enqueue(
        sys.argv[1], source=sys.argv[2], target=sys.argv[3], actor="ada", door="admin",
        request_key="one form")
print(operation.id)
"""


def _submit(installation: Installation, kind: str, source: str, target: str, times: int = 1) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SUBMIT, kind, source, target, str(times)], cwd=REPOSITORY,
        env={**installation.environment, "DJANGO_SETTINGS_MODULE": "skinspire.settings"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def ready(installation18: Installation) -> Installation:
    installation18.result("init_db", "--env", "dev")
    installation18.result("init_db", "--env", "test")
    return installation18


def test_the_worker_runs_it_once_however_often_it_was_sent(ready: Installation) -> None:
    operation = _submit(ready, "backup", "dev", "", times=3)
    ready.run("db_worker", "--batch", "--no-startup-delay")
    shown = ready.result("operations", "show", operation)
    assert shown["operation"]["status"] == "succeeded"
    assert shown["operation"]["actor"] == "ada"
    assert "dump" in shown["steps"]
    assert len(ready.result("listbackups")["backups"]) == 1


def test_a_failure_in_the_worker_is_told_by_the_row(ready: Installation) -> None:
    ready.databases["dev"], ready.databases["test"] = (
        ready.databases["test"],
        ready.databases["dev"],
    )
    operation = _submit(ready, "backup", "dev", "")
    ready.run("db_worker", "--batch", "--no-startup-delay")
    shown = ready.result("operations", "show", operation)
    assert shown["operation"]["status"] == "failed"
    assert "stamped" in shown["error"]


def test_a_queued_operation_can_be_cancelled(ready: Installation) -> None:
    operation = _submit(ready, "copy", "test", "dev")
    answer = ready.run("operations", "cancel", operation, "--json").json
    assert answer["operation"]["status"] == "cancelled"
    before = ready.hashes("dev")
    ready.run("db_worker", "--batch", "--no-startup-delay")
    assert ready.hashes("dev") == before
    shown = ready.result("operations", "show", operation)
    assert shown["operation"]["status"] == "cancelled"


def _row(installation: Installation, operation: str, column: str) -> str:
    connection = sqlite3.connect(installation.home / "control.sqlite3", timeout=10)
    try:
        query = f"SELECT {column} FROM dbops_operation WHERE id = ?"
        return str(connection.execute(query, [operation]).fetchone()[0])
    finally:
        connection.close()


def _wait_for_status(installation: Installation, operation: str, status: str) -> None:
    deadline = time.monotonic() + 30
    while _row(installation, operation, "status") != status:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def slow(ready: Installation) -> Installation:
    add_slow_index(ready, 300)
    return ready


def test_a_killed_worker_leaves_no_running_row(slow: Installation) -> None:
    # A session on test makes the copy go by dump, whose index takes six seconds.
    from dbops.postgres.connection import session

    operation = _submit(slow, "copy", "test", "dev")
    with session(slow.databases["test"]):
        worker = slow.start("db_worker", "--no-startup-delay")
        _wait_for_status(slow, operation, "running")
        time.sleep(0.5)
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
    slow.run("db_worker", "--batch", "--no-startup-delay")
    shown = slow.result("operations", "show", operation)
    assert shown["operation"]["status"] == "interrupted"
    assert slow.scratch() == []


def test_term_cancels_what_runs_and_ends_the_worker(slow: Installation) -> None:
    from dbops.postgres.connection import session

    operation = _submit(slow, "copy", "test", "dev")
    with session(slow.databases["test"]):
        worker = slow.start("db_worker", "--no-startup-delay")
        _wait_for_status(slow, operation, "running")
        time.sleep(0.5)
        os.kill(worker.pid, signal.SIGTERM)
        worker.communicate(timeout=30)
    assert _row(slow, operation, "status") == "cancelled"
    assert slow.scratch() == []
