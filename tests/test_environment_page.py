"""The console's page Environment: for staff, without secrets, at every width."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from dbops import conf
from dbops.postgres.connection import session
from dbops.postgres.stamp import write_stamp
from skinspire.environment import FILE_NAME
from skinspire.variables import env
from tests.conftest import SignIn

pytestmark = pytest.mark.django_db(databases=["default", "control", "test", "prod"])
PATH = "/environments/"
CANARY = "c4n4ry"


def _text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_it_is_for_whoever_has_a_permission(client: Client, sign_in: SignIn) -> None:
    assert client.get(PATH).url.startswith("/accounts/login/")
    people = sign_in()
    assert people.get(PATH).status_code == 403
    assert PATH not in people.get("/").content.decode()


def test_it_shows_what_decides_and_no_secret(
    sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEV_DATABASE_URL", "CONTROL_DATABASE_URL", "BACKUP_STORAGE_URL"):
        monkeypatch.setitem(env.read, name, f"postgresql://a:{CANARY}@h/d?password={CANARY}")
        monkeypatch.setitem(env.ENVIRON, name, env.read[name])
    for name in ("SECRET_KEY", "MASKING_KEY", "AWS_SESSION_TOKEN", "BACKUP_IDENTITY"):
        monkeypatch.setitem(env.read, name, CANARY)
        monkeypatch.setitem(env.ENVIRON, name, CANARY)
    staff = sign_in("back_up")
    assert PATH in staff.get("/").content.decode()
    answer = staff.get(PATH)
    assert answer.status_code == 200
    assert CANARY not in answer.content.decode()
    text = _text(answer)
    assert "This console runs in dev by SKINSPIRE_ENV" in text
    assert "postgresql://a:***@h/d?password=***" in text
    assert "no-store" in answer["Cache-Control"]
    assert staff.post(PATH).status_code == 405


def test_it_tells_that_a_restart_is_due(
    sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(settings, "SKINSPIRE_HOME", tmp_path)
    monkeypatch.setitem(env.ENVIRON, "SKINSPIRE_ENV", "")
    (tmp_path / FILE_NAME).write_text("test\n")
    text = _text(sign_in("back_up").get(PATH))
    assert "A process started now would run in test." in text


def test_it_tells_what_is_wrong(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(conf.database_params("prod")) as connection:
        write_stamp(connection, "test")
    monkeypatch.setitem(env.read, "TEST_DATABASE_URL", env.read["PROD_DATABASE_URL"])
    try:
        text = _text(sign_in("back_up").get(PATH))
    finally:
        with session(conf.database_params("prod")) as connection:
            write_stamp(connection, "prod")
    assert "test, not prod" in text
    assert "dbops.E015 The URLs of test and prod lead to one and the same database." in text
