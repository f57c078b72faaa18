"""A console whose databases go away and come back: never a traceback, never a restart."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import django.db
import psycopg2
import pytest
from django.db import connections

from dbops.postgres.connection import execute, fetch_value, session
from skinspire.outage import is_outage
from tests.faults import own_server
from tests.installation import REPOSITORY, Installation

_PREPARE = """
from django.test import Client
from accounts.models import User
client = Client()
client.force_login(User.objects.create_superuser("root", password="correct horse"))
print("key", client.session.session_key)
"""


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str


@dataclass
class Console:
    """A console in a process of its own, and somebody who is signed in."""

    installation: Installation
    port: int
    cookie: str
    log: Path

    def ask(
        self, path: str, method: str = "GET", body: str = "", kind: str = "application/json",
        cookie: str | None = None,
    ) -> Answer:  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        jar = self.cookie if cookie is None else cookie
        connection.request(method, path, body or None, {"Cookie": jar, "Content-Type": kind})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return Answer(answer.status, answer.headers, text)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    home = tmp_path_factory.mktemp("outage")
    with own_server() as server, Installation.create(server, home) as made:
        made.result("init_db", "--env", "dev")
        made.variables["DEBUG"] = "false"
        key = made.run("shell", "--no-imports", "-c", _PREPARE).out.split("key ")[1].strip()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        log = home / "gunicorn.log"
        argv = [sys.executable, "-m", "gunicorn", "skinspire.wsgi", f"--bind=127.0.0.1:{port}",
                "--workers=1", "--threads=4"]  # fmt: skip
        with log.open("w") as file:
            process = subprocess.Popen(
                argv, cwd=REPOSITORY, env=made.environment, stdout=file, stderr=file
            )
        found = Console(made, port, f"skinspire_dev_session={key}", log)
        try:
            _await(found, "/healthz")
            yield found
        finally:
            process.send_signal(signal.SIGINT)  # without waiting for whoever still asks
            process.wait(30)
            server.embedded.start()  # what the fixtures drop, they drop on a server that runs


def _await(console: Console, path: str, status: int = 200) -> Answer:
    deadline = time.monotonic() + 60
    while True:
        with suppress(OSError):
            answer = console.ask(path)
            if answer.status == status:
                return answer
        assert time.monotonic() < deadline, console.log.read_text()
        time.sleep(0.05)


@contextmanager
def stopped(console: Console) -> Iterator[None]:
    embedded = console.installation.server.embedded
    embedded.stop()
    try:
        yield
    finally:
        embedded.start()


def is_page(answer: Answer) -> bool:
    policy = answer.headers["Content-Security-Policy"]
    assert answer.headers["Retry-After"] == "10"
    assert "no-store" in answer.headers["Cache-Control"]
    assert "script-src 'self'" in policy
    assert "Traceback" not in answer.text
    return answer.status == 503 and "does not answer" in answer.text


def test_a_server_that_stops_gives_503_everywhere_and_recovers_by_itself(console: Console) -> None:
    assert console.ask("/").status == 200
    assert json.loads(console.ask("/readyz").text)["ready"] is True
    with stopped(console):
        for path in ("/", "/admin/", "/admin/dbops/operation/", "/accounts/login/", "/nowhere"):
            answer = console.ask(path)
            assert is_page(answer), path
            assert 'http-equiv="refresh"' in answer.text
        answer = console.ask("/accounts/login/", cookie="skinspire_dev_csrf=x")
        assert answer.status == 200  # nobody is signed in, nothing is asked
        answer = console.ask("/", "HEAD")
        assert (answer.status, answer.text) == (503, "")
        answer = console.ask("/", "POST", "a=b", "application/x-www-form-urlencoded")
        assert is_page(answer)
        assert 'http-equiv="refresh"' not in answer.text
        assert console.ask("/healthz").text == "ok\n"
        ready = console.ask("/readyz")
        assert (ready.status, json.loads(ready.text)["checks"][0]) == (
            503, {"name": "database", "ok": False, "value": "does not answer"},
        )  # fmt: skip
    assert console.ask("/").status == 200  # the connection that stayed open is not used
    assert _await(console, "/readyz").status == 200
    log = console.log.read_text()
    assert "Traceback" not in log
    assert "Connection refused" in log


@pytest.mark.parametrize("cookie", ["", None], ids=["nobody", "somebody"])
def test_the_api_answers_with_a_problem(console: Console, cookie: str | None) -> None:
    body = json.dumps({"username": "root", "password": "correct horse"})
    with stopped(console):
        answer = console.ask("/api/auth/token/", "POST", body, cookie=cookie)
    assert answer.status == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "10"
    assert json.loads(answer.text) == {
        "type": "about:blank", "title": "Service Unavailable", "status": 503,
        "detail": "A database does not answer. Try again in 10 seconds.",
    }  # fmt: skip
    assert console.ask("/api/auth/token/", "POST", body, cookie=cookie).status == 200


def test_a_server_that_dies_under_a_request(console: Console) -> None:
    heard: list[Answer] = []
    body = json.dumps({"username": "root", "password": "correct horse"})

    def ask() -> None:
        heard.append(console.ask("/api/auth/token/", "POST", body, cookie=""))

    params = console.installation.databases["dev"]
    thread = threading.Thread(target=ask)
    with session(params) as holder:
        execute(holder, "BEGIN")
        execute(holder, "LOCK TABLE public.accounts_user")
        thread.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not fetch_value(holder, waiting):
            time.sleep(0.02)
        with stopped(console):
            thread.join()
    assert heard[0].status == 503
    assert _await(console, "/").status == 200
    assert "Traceback" not in console.log.read_text()


def test_no_connection_left(console: Console) -> None:
    server = console.installation.server
    with session(server.superuser) as control:
        execute(control, "ALTER ROLE skinspire_app CONNECTION LIMIT 0")
        execute(
            control,
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE usename = 'skinspire_app'""",
        )
        try:
            assert is_page(console.ask("/"))
        finally:
            execute(control, "ALTER ROLE skinspire_app CONNECTION LIMIT -1")
    assert console.ask("/").status == 200


def test_control_is_away_or_not_migrated(console: Console) -> None:
    control = console.installation.home / "control.sqlite3"
    aside = control.with_suffix(".aside")
    control.rename(aside)
    control.mkdir()
    try:
        assert is_page(console.ask("/"))
        assert console.ask("/readyz").status == 503
    finally:
        control.rmdir()
        aside.rename(control)
    assert console.ask("/").status == 200
    control.rename(aside)  # removed: whoever opens it next makes an empty one
    try:
        for path in ("/", "/admin/dbops/operation/"):
            assert is_page(console.ask(path)), path
        assert "python manage.py migrate" in console.log.read_text()
        assert "python manage.py migrate" in console.installation.refused("operations")["hint"]
    finally:
        for file in control.parent.glob("control.sqlite3*"):
            file.unlink()
        aside.rename(control)
    assert console.ask("/").status == 200
    assert "Traceback" not in console.log.read_text()
    with sqlite3.connect(control) as database:
        forgotten = database.execute(
            "SELECT name, app, applied FROM django_migrations WHERE app = 'dbops' "
            "ORDER BY id DESC LIMIT 1"
        ).fetchone()
        database.execute("DELETE FROM django_migrations WHERE name = ? AND app = ?", forgotten[:2])
    answer = console.ask("/readyz")
    assert answer.status == 503
    assert json.loads(answer.text)["checks"][1]["value"] == "1 migration is not applied"
    with sqlite3.connect(control) as database:
        database.execute(
            "INSERT INTO django_migrations (name, app, applied) VALUES (?, ?, ?)", forgotten
        )
    assert console.ask("/readyz").status == 200
    assert console.ask("/readyz", "POST", "x").status == 405


# What is an outage, by errors as they really come


@pytest.mark.django_db(transaction=True, databases=["default", "control"])
@pytest.mark.parametrize(
    "statement",
    ["SELECT 1/0", "SELECT * FROM nowhere", "SET LOCAL statement_timeout = 10; SELECT pg_sleep(9)",
     "LOCK TABLE accounts_user NOWAIT"],
)  # fmt: skip
def test_a_statement_that_is_refused_is_no_outage(statement: str) -> None:
    with (
        session_of_somebody_else(),
        connections["default"].cursor() as cursor,
        pytest.raises(django.db.Error) as caught,
    ):
        cursor.execute(statement)
    assert not is_outage(caught.value)


@contextmanager
def session_of_somebody_else() -> Iterator[None]:
    from dbops import conf

    with session(conf.database_params("dev")) as other:
        execute(other, "BEGIN")
        execute(other, "LOCK TABLE public.accounts_user")
        yield


@pytest.mark.django_db(transaction=True)
def test_a_session_that_is_ended_or_used_up_is_an_outage() -> None:
    connection = connections["default"]
    with pytest.raises(django.db.OperationalError) as ended, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(django.db.Error) as lost, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.close()
    assert is_outage(ended.value)
    assert is_outage(lost.value)
    cursor = connection.cursor()
    cursor.close()
    with pytest.raises(django.db.InterfaceError) as mistaken:
        cursor.execute("SELECT 1")
    assert not is_outage(mistaken.value)
    assert not is_outage(psycopg2.OperationalError("not through Django"))
    assert not is_outage(None)


@pytest.mark.django_db(transaction=True, databases=["default", "control"])
def test_a_control_database_that_is_locked_is_an_outage(tmp_path: Path) -> None:
    connection = connections["control"]
    file = connection.settings_dict["NAME"]
    with sqlite3.connect(file, isolation_level=None) as other, connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(django.db.OperationalError) as locked:
            cursor.execute("DELETE FROM dbops_operation")
        with pytest.raises(django.db.OperationalError) as refused:
            cursor.execute("SELECT * FROM nowhere")
        other.execute("ROLLBACK")
    other.close()
    connection.close()
    assert is_outage(locked.value)
    assert not is_outage(refused.value)
