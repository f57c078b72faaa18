"""Faults 35 to 38: several who want one database at once. One operation at a time, and whoever
comes second hears who is at it and since when; a lock goes with its holder, and a form sent twice
is one operation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid

import pytest

from dbops.postgres.connection import execute, session
from tests.conftest import SignIn
from tests.copying import COPY, assert_copied, gate, held, make_pair, standing, wait_until_held
from tests.faults import ended, locks_held, wait_for
from tests.installation import REPOSITORY, Installation

HELD = r"dev is held by \w+ \(copy test → dev, operation [0-9a-f]{12}\) since \d{4}-\d\d-\d\dT"


@pytest.fixture
def pair(installation18: Installation) -> Installation:
    return make_pair(installation18)


def test_twenty_at_once(pair: Installation) -> None:
    """Fault 35: twenty processes. One copies, though it is held until all others are gone; they say
    who holds the target and since when."""
    with gate(pair, "small"):
        everybody = [pair.start(*COPY, "--strategy", "stream") for _ in range(20)]
        wait_for(lambda: len([it for it in everybody if it.poll() is None]) == 1, seconds=120)
        (winner,) = [it for it in everybody if it.poll() is None]
        for process in everybody:
            if process is not winner:
                _, err = process.communicate()
                assert process.returncode == 1
                assert re.search(HELD, err), err
                assert err.count("Error: ") == 1
                assert "Traceback" not in err
        wait_until_held(pair, winner)
    _, err = winner.communicate(timeout=60)
    assert winner.returncode == 0, err
    assert_copied(pair)
    done = pair.result("operations")["operations"]
    assert sorted(it["status"] for it in done) == ["failed"] * 19 + ["succeeded"]


def test_while_a_copy_runs(pair: Installation) -> None:
    """Fault 36: nobody backs up, restores, copies or changes what is being replaced, or changes
    what is being read; who only reads the source may."""
    backup = pair.result("dbbackup", "-d", "test")["name"]
    with held(pair, "small", "--strategy", "stream") as (process, waiting):
        before = standing(pair)
        for target, *command in (
            ("dev", "dbbackup", "-d", "dev"),
            ("dev", "dbrestore", "-d", "dev", "-i", backup, "--noinput"),
            ("dev", "dbrestore", "-d", "dev", "-i", backup, "--noinput", "--in-place"),
            ("dev", "apply_triggers", "--env", "dev"),
            ("dev", "init_db", "--env", "dev"),
            ("test", "dbrestore", "-d", "test", "-i", backup, "--noinput"),
            ("dev", "copy_db", "dev", "test", "--noinput"),
        ):
            error = pair.refused(*command)
            assert error["code"] == "locked", command
            assert re.search(HELD.replace("dev", target, 1), error["message"]), error
        assert standing(pair) == before
        pair.result("dbbackup", "-d", "test")
        waiting.close()
        assert ended(process)[0] == 0
    assert_copied(pair)


def test_a_copy_while_its_target_is_backed_up(pair: Installation) -> None:
    """Fault 36: the other way round."""
    with session(pair.databases["dev"]) as connection:
        execute(connection, "BEGIN; LOCK TABLE public.notes")
        process = pair.start("dbbackup", "-d", "dev")
        wait_for(lambda: locks_held(pair, pair.server) == 1)
        error = pair.refused(*COPY)
        assert error["code"] == "locked"
        assert re.search(r"dev is held by \w+ \(back up dev, .*\) since \d{4}-", error["message"])
        execute(connection, "ROLLBACK")
        assert ended(process)[0] == 0
    pair.result(*COPY)
    assert_copied(pair)


@pytest.mark.parametrize("strategy", ["stream", "dump"])
def test_the_lock_goes_with_its_holder(pair: Installation, strategy: str) -> None:
    """Fault 37: killed with -9 while the server still works for it. Before anything is swept the
    next copy has the lock."""
    command = [*COPY, "--strategy", strategy]
    with held(pair, "small", "--strategy", strategy) as (process, _):
        assert locks_held(pair, pair.server) == 2
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: locks_held(pair, pair.server) == 0, seconds=2)
    pair.result(*command)
    assert pair.hashes("dev") == pair.hashes("test")
    swept = pair.result("operations", "sweep")
    assert len(swept["interrupted"]) == 1
    assert_copied(pair)


@pytest.mark.django_db(databases=["default", "control", "test", "prod"])
def test_the_same_copy_form_twice(sign_in: SignIn) -> None:
    """Fault 38: a double click, and the page sent once more by going back to it."""
    from django_tasks_db.models import DBTaskResult

    from dbops.models import Operation

    client, path = sign_in("copy"), "/admin/dbops/operation/copy/"
    fields = {"source": "test", "target": "dev"}
    page = client.post(path, fields).content.decode()
    key = re.search(r'name="request_key" value="([^"]+)"', page)
    assert key
    answers = [
        client.post(path, {**fields, "confirm": "1", "request_key": key[1]}) for _ in range(3)
    ]
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert Operation.objects.count() == DBTaskResult.objects.count() == 1
    other = {**fields, "confirm": "1", "request_key": str(uuid.uuid4())}
    assert client.post(path, other).headers["Location"] != answers[0].headers["Location"]


_SUBMIT = """
import sys
import django; django.setup()
from dbops import tasks
sys.stdin.readline()
print(tasks.submit_and_enqueue("copy", source="test", target="dev", actor="ada", door="admin",
                               request_key="one form").pk)
"""


def test_the_same_copy_form_at_the_same_time(pair: Installation) -> None:
    """Fault 38: several processes of the console take it at once; the worker copies once."""
    everybody = [
        subprocess.Popen(
            [sys.executable, "-c", _SUBMIT], cwd=REPOSITORY, text=True,
            env={**pair.environment, "DJANGO_SETTINGS_MODULE": "skinspire.settings"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(6)
    ]  # fmt: skip
    for process in everybody:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in everybody]
    assert [process.returncode for process in everybody] == [0] * 6, answers
    (operation,) = {out.strip() for out, _ in answers}
    pair.run("db_worker", "--batch", "--no-startup-delay")
    (done,) = pair.result("operations")["operations"]
    assert (done["id"], done["status"]) == (operation, "succeeded")
    assert_copied(pair)
