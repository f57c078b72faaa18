"""The pages that show what a database holds: who may see them, what they show, and safely."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import unquote

import pytest
from django.conf import settings as configured
from django.db import connections
from django.test import Client

from dbops import conf
from dbops.models import Operation
from dbops.postgres.connection import execute, session
from dbops.postgres.stamp import write_stamp
from tests.conftest import SignIn

pytestmark = pytest.mark.django_db(databases=["default", "control", "test", "prod"])
PAGE = "/admin/dbops/operation/inspect/"
ODD = 'CREATE TABLE public."<b>o.d""d\u202e" (id int PRIMARY KEY, "<i>" text DEFAULT \'<script>\')'


@pytest.fixture(autouse=True)
def _stamped(django_db_setup: None) -> None:
    for name in ("dev", "test"):
        with session(conf.database_params(name)) as connection:
            write_stamp(connection, name)


def _text(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def test_who_may_look(client: Client, sign_in: SignIn) -> None:
    answer = client.get(f"{PAGE}dev/", follow=True)
    assert unquote(answer.redirect_chain[-1][0]) == f"/accounts/login/?next={PAGE}dev/"
    assert sign_in(staff=True).get(f"{PAGE}dev/").status_code == 403


def test_staff_who_may_see_operations(sign_in: SignIn) -> None:
    client = sign_in("back_up")
    assert f"{PAGE}dev/" in _text(client.get("/"))
    page = client.get(f"{PAGE}dev/")
    text = _text(page)
    assert page.status_code == 200
    assert "accounts_user" in text
    assert "PostgreSQL 18" in text
    assert "style=" not in text.split("<main")[-1]
    assert client.get(f"{PAGE}nowhere/").status_code == 404
    assert client.post(f"{PAGE}dev/").status_code == 405
    found = _text(client.get(f"{PAGE}dev/", {"q": "USER_GROUP"}))
    assert "accounts_user_groups" in found
    assert "auth_permission" not in found
    assert not Operation.objects.exists()


def test_a_table_of_any_name(sign_in: SignIn) -> None:
    client = sign_in("back_up")
    with session(conf.database_params("test")) as connection:
        execute(connection, ODD)
        try:
            whole = client.get(f"{PAGE}test/")
            assert "<b>" not in whole.content.decode()
            assert "\u202e" not in whole.content.decode()
            links = re.findall(r'href="([^"]+table=[^"]+)"', whole.content.decode())
            [link] = [html.unescape(it) for it in links if "%3Cb%3E" in it]
            page = client.get(link)
            text = _text(page)
            assert page.status_code == 200
            assert "<script>&" not in text
            assert "&lt;script&gt;" in text
            assert "<i>" not in text
            assert "PRIMARY KEY" in text
        finally:
            execute(connection, 'DROP TABLE public."<b>o.d""d\u202e"')


def test_what_cannot_be_shown_is_said(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    client = sign_in("back_up")
    missing = _text(client.get(f"{PAGE}dev/", {"table": "acounts_user\x01"}))
    assert "There is no table acounts_user\\x01." in missing
    monkeypatch.setitem(configured.DATABASES["prod"], "PORT", "1")
    monkeypatch.setitem(configured.DATABASES["prod"], "USER", "secret_role")
    page = client.get(f"{PAGE}prod/")
    assert page.status_code == 200
    assert "secret_role" not in _text(page)
    assert "refused" in _text(page)
    connections["prod"].close()
