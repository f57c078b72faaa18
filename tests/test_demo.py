"""`make demo` as a stranger meets it: the whole job, twice, and a console one can sign in to."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbops.postgres.connection import fetch_value, session
from dbops.postgres.embedded import EmbeddedServer
from tests import servers

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    path = servers.test_root() / f"demo-{os.getpid()}"
    path.mkdir(mode=0o711)
    yield path
    EmbeddedServer(path / "postgres").stop()
    shutil.rmtree(path)


def _start(home: Path, *options: str) -> subprocess.Popen[str]:
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *options], cwd=ROOT, text=True,
        env={**kept, "SKINSPIRE_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_the_main_job_and_a_second_run_that_reuses_it(home: Path) -> None:
    for run in ("first", "second"):
        process = _start(home, "--no-serve", "--json")
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert "restore test from its backup" in json.loads(out)["result"]["steps"]
        assert ("already there" in err) == (run == "second")
    server = EmbeddedServer(home / "postgres")
    for name in ("dev", "test"):
        with session(server.params(name)) as connection:
            patients = fetch_value(connection, "SELECT count(*) FROM clinic.patients")
            assert patients == 6000
            revenue = fetch_value(connection, "SELECT count(*) FROM billing.monthly_revenue")
            assert revenue > 0
            assert fetch_value(connection, "SELECT environment FROM skinspire.stamp") == name


def test_the_printed_password_opens_the_console(home: Path) -> None:
    process = _start(home, "--port", "0")
    assert process.stdout is not None
    told = "".join(process.stdout.readline() for _ in range(3))
    address = re.search(r"http://\S+", told)
    password = re.search(r"Password: (\S+)", told)
    assert address
    assert password
    try:
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        page = _open(browser, f"{address[0]}accounts/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token
        fields = {"username": "operator", "password": password[1],
                  "csrfmiddlewaretoken": token[1]}  # fmt: skip
        data = urllib.parse.urlencode(fields).encode()
        with browser.open(f"{address[0]}accounts/login/", data, timeout=30) as answer:
            dashboard = answer.read().decode()
            assert answer.url == address[0]
        assert "Back up" in dashboard
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0


def _open(browser: urllib.request.OpenerDirector, url: str) -> str:
    import time

    deadline = time.monotonic() + 30
    while True:
        try:
            with browser.open(url, timeout=30) as answer:
                return str(answer.read().decode())
        except OSError:  # gunicorn is not listening yet
            assert time.monotonic() < deadline
            time.sleep(0.1)
