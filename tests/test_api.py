"""What all of the API has in common: its errors, its bounds, its schema, and the page of it."""

from __future__ import annotations

import json
import shutil
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.core.management import call_command
from django.db import OperationalError, connections
from django.test import Client, RequestFactory
from django.urls import reverse
from playwright.sync_api import expect, sync_playwright
from rest_framework.test import APIRequestFactory

from accounts import tokens
from accounts.admission import one_of_few
from accounts.models import User
from accounts.throttles import count_request
from skinspire import problems
from tests.conftest import skip_or_fail

pytestmark = pytest.mark.django_db(databases=["default", "control"])
TOKEN, ME = "/api/auth/token/", "/api/auth/me/"
KEYS = {"type", "title", "status", "detail"}


@pytest.fixture
def access() -> str:
    request = APIRequestFactory().get("/")
    return tokens.sign_in(User.objects.create_user("nora"), request).access


def _require_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "no-store" in answer.headers["Cache-Control"]
    found = dict(json.loads(answer.content))
    assert set(found) - {"errors"} == KEYS
    assert found["status"] == status
    assert found["detail"]
    return found


# One shape


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", ME, 401), ("GET", TOKEN, 405), ("POST", ME, 401), ("GET", "/api/", 404),
        ("GET", "/api", 404), ("POST", "/api/auth/token", 404),
        ("GET", "/api/auth/sessions/x/", 404),
        ("GET", "/api/auth/me/?format=xml", 401),
    ],
)  # fmt: skip
def test_every_error_is_a_problem(method: str, path: str, status: int) -> None:
    answer = Client().generic(method, path)
    _require_problem(answer, status)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_field_that_is_wrong_is_named() -> None:
    answer = Client().post(TOKEN, {"username": "x" * 151}, "application/json")
    errors = _require_problem(answer, 400)["errors"]
    assert [it["field"] for it in errors] == ["username", "password"]
    answer = Client().post(TOKEN, "[1]", "application/json")
    assert _require_problem(answer, 400)["errors"][0]["field"] == ""


def test_a_mistake_of_ours_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, access: str, settings: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr("accounts.api_views.MeSerializer", fail)
    client = Client(raise_request_exception=False)
    answer = client.get(ME, headers={"Authorization": f"Bearer {access}"})
    _require_problem(answer, 500)
    assert b"hunter2" not in answer.content


def test_a_database_that_is_away_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("gone") from __import__("psycopg2").OperationalError("gone")

    monkeypatch.setattr("accounts.throttles.count_request", fail)
    answer = Client().post(TOKEN, {}, "application/json")
    _require_problem(answer, 503)
    assert answer.headers["Retry-After"] == "10"


def test_what_is_no_api_keeps_its_pages(rf: RequestFactory) -> None:
    assert problems.not_found(rf.get("/api/x"), Exception()).status_code == 404
    page = problems.not_found(rf.get("/x"), Exception())
    assert page.headers["Content-Type"].startswith("text/html")
    assert problems.server_error(rf.get("/x")).status_code == 500


# Fault 53: what is read is bounded


def _post(body: bytes, content_type: str = "application/json", **headers: str) -> Any:
    return Client().generic("POST", TOKEN, body, content_type=content_type, headers=headers)


_BODY = b'{"username": "nora", "password": "x"}'


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (_BODY, "application/json; charset=utf-8", 401),
        (_BODY, 'application/json; charset="UTF8"', 401),
        (_BODY.decode().encode("utf-16"), "application/json; charset=utf-16", 415),
        (_BODY.decode().encode("utf-16"), "application/json", 400),
        (_BODY, "application/json; charset=rot13", 415),
        (_BODY, "application/json; charset=zlib_codec", 415),
        (_BODY, "application/json; charset=nothing", 415),
        (b'{"username": "\xff"}', "application/json", 400),
        (b'{"username": "\\ud800", "password": "x"}', "application/json", 400),
        (b'{"username": "\\u0000", "password": "x"}', "application/json", 400),
        (b'{"username": NaN}', "application/json", 400),
        (b"9" * 5000, "application/json", 400),
        (b'{"username": ' + b"9" * 4000 + b', "password": "x"}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "application/json", 400),
        (b"[" * 50 + b"]" * 50, "application/json", 400),
        (b"\xef\xbb\xbf" + _BODY, "application/json", 400),
        (b"", "application/json", 400),
        (_BODY, "text/plain", 415),
        (_BODY, "", 415),
        (_BODY, "application/json;" * 500, 415),
        (b"username=nora&password=x", "application/x-www-form-urlencoded", 415),
        (b"--x--", "multipart/form-data; boundary=x", 415),
    ],
    ids=lambda it: None if isinstance(it, int) else repr(it)[1:41],
)
def test_a_body_that_is_no_plain_json_is_refused(
    body: bytes, content_type: str, status: int
) -> None:
    """Fault 53: a wrong charset, deep JSON, words that no column takes: 4xx."""
    answer = _post(body, content_type)
    _require_problem(answer, status)


@pytest.mark.parametrize(
    "accept",
    ["text/html," * 100_000, "*/*;q=" + "9" * 900, "application/json;indent=9999999", "é/ü", ";;;",
     "application/json; q=x", "application/xml", "a" * 1000, ",".join(["*/*"] * 250), "\0"],
    ids=lambda it: repr(it)[1:41],
)  # fmt: skip
def test_a_giant_or_odd_accept_costs_nothing(accept: str) -> None:
    """Fault 53: a giant Accept: 4xx, by every view."""
    for path in (ME, "/api/schema/", "/api/docs/", "/api/nothing"):
        answer = Client().get(path, headers={"Accept": accept})
        assert answer.status_code < 500
        if path == ME:
            _require_problem(answer, answer.status_code)


class _Endless:
    """A body of 100 MB that is made while it is read, and counts what was."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def read(self, size: int = -1) -> bytes:
        size = 1 << 16 if size < 0 else min(size, 1 << 16)
        self.read_bytes += size
        return b" " * size

    readline = read


@pytest.mark.parametrize("said", ["104857600", "1048577", "9" * 30])
def test_a_body_of_100_mb_is_refused_unread(said: str) -> None:
    """Fault 53: 413, and memory stays bounded."""
    body = _Endless()
    tracemalloc.start()
    try:
        answer = Client().generic(
            "POST", TOKEN, b"", "application/json",
            **{"wsgi.input": body, "CONTENT_LENGTH": said, "CONTENT_TYPE": "application/json"},
        )  # fmt: skip
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    _require_problem(answer, 413)
    assert body.read_bytes <= configured.API_LONGEST_BODY
    assert peak < 8 << 20


# How often


def test_too_many_sign_ins_wait(settings: Any) -> None:
    settings.API_LIMITS = configured.API_LIMITS | {"sign-in": 2}
    codes = [_post(b"{}").status_code for _ in range(2)]
    assert codes == [400, 400]
    answer = _post(b"{}")
    _require_problem(answer, 429)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert Client().post("/api/auth/token/verify/", {}, "application/json").status_code == 400


def test_users_are_counted_each_and_a_forwarded_address_counts_for_nothing(
    settings: Any, access: str
) -> None:
    settings.API_LIMITS = configured.API_LIMITS | {"signed-in": 1, "sign-in": 1}
    other = tokens.sign_in(User.objects.create_user("otto"), APIRequestFactory().get("/")).access
    for token in (access, other):
        bearer = {"Authorization": f"Bearer {token}"}
        codes = [Client().get(ME, headers=bearer).status_code for _ in range(2)]
        assert codes == [200, 429]
    codes = [_post(b"{}", **{"X-Forwarded-For": f"192.0.2.{it}"}).status_code for it in range(2)]
    assert codes == [400, 429]


def test_a_crowd_that_signs_in_leaves_room_for_who_is_in(access: str) -> None:
    User.objects.create_user("otto", password="x")
    body = b'{"username": "otto", "password": "x"}'
    with one_of_few(), one_of_few():
        answer = _post(body)
        _require_problem(answer, 429)
        assert answer.headers["Retry-After"] == "1"
        assert Client().get(ME, headers={"Authorization": f"Bearer {access}"}).status_code == 200
    assert _post(body).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_parallel_requests_are_counted_exactly() -> None:
    found: list[int] = []

    def count() -> None:
        try:
            found.extend(count_request("x")[0] for _ in range(10))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 81))


# Schema and page


def test_the_schema_is_valid_and_nothing_in_it_is_guessed(tmp_path: Path) -> None:
    call_command(
        "spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "schema.yaml")
    )


def test_every_operation_has_words_and_every_body_an_example() -> None:
    answer = Client().get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert answer.status_code == 200
    schema = json.loads(answer.content)
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert "default" in operation["responses"]
            for body in operation.get("requestBody", {}).get("content", {}).values():
                assert body["examples"], path
    assert "Problem" in schema["components"]["schemas"]


@pytest.mark.browser
@pytest.mark.django_db(transaction=True, databases=["default", "control"])
def test_the_documentation_works_offline_under_the_policy(live_server: Any, tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        skip_or_fail("chromium is not installed")
    from tests.test_console_browser import OPTIONS

    complaints: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=OPTIONS
        )
        page = context.new_page()
        page.on("console", lambda it: complaints.append(it.text) if it.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda it: asked.append(it.url))
        answer = page.goto(f"{live_server.url}{reverse('docs')}")
        assert answer is not None
        policy = answer.headers["content-security-policy"].split("; ")
        assert "script-src 'self'" in policy
        expect(page.get_by_text("Sign in", exact=True)).to_be_visible()
        page.get_by_text("Who I am", exact=True).click()
        expect(page.get_by_text("The account, what it may do")).to_be_visible()
        page.screenshot(path=str(tmp_path / "docs.png"), full_page=True)
        context.close()
        connections.close_all()
    assert complaints == []
    assert all(it.startswith((live_server.url, "data:")) for it in asked)
