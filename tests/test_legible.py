"""Odd bytes and odd words in requests for pages: an answer each time, never a failure of ours."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from django.core.signals import request_started
from django.db import close_old_connections

from accounts.models import User
from skinspire.wsgi import application

pytestmark = pytest.mark.django_db(databases=["default", "control"])
LOGIN = "/accounts/login/"
NUL = "%00"


@pytest.fixture(autouse=True)
def keep_connections() -> Iterator[None]:
    """A request begins by closing them, and with them a test's transaction."""
    request_started.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)


def ask(path: str, content_type: str, method: str = "GET") -> tuple[int, dict[str, str]]:
    """As a server hands a request on: Django's test client makes another kind of request."""
    told: list[tuple[int, dict[str, str]]] = []
    environ = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "next=%C3%A9&lang=%FF",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80", "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": "2", "wsgi.input": BytesIO(b"{}"), "wsgi.errors": BytesIO(),
        "wsgi.url_scheme": "http",
    }  # fmt: skip
    application(environ, lambda status, more: told.append((int(status.split()[0]), dict(more))))
    return told[0]


@pytest.mark.parametrize("charset", ["rot13", "undefined", "idna", "hex", "utf-16", "latin-1"])
def test_pages_read_utf8_and_nothing_else(charset: str) -> None:
    """Fault 53: a codec of Python's that decodes no text is no way to a 500."""
    for kind in ("text/plain", "multipart/form-data; boundary=x"):
        for method in ("GET", "POST"):
            status, headers = ask(LOGIN, f"{kind}; charset={charset}", method)
            assert status == 400
            assert "Content-Security-Policy" in headers
        assert ask("/api/docs/", f"{kind}; charset={charset}")[0] == 200
        assert ask("/api/schema/", f"{kind}; charset={charset}")[0] == 200
    assert ask("/api/auth/token/", f"application/json; charset={charset}", "POST")[0] == 415


@pytest.mark.parametrize("said", ["charset=UTF-8", "x*=undefined''%FF", "x*=nothing''%FF"])
def test_a_content_type_that_cannot_be_read_is_none(said: str) -> None:
    """Fault 53: Django would fail before any middleware is asked."""
    assert ask(LOGIN, f"text/plain; {said}")[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/admin/accounts/user/?username={NUL}", 400),
        (f"/admin/accounts/accountevent/?event={NUL}", 400),
        (f"{LOGIN}?next={NUL}", 400),
        (f"/api/auth/me/?x={NUL}", 400),
        (f"/admin/dbops/operation/{NUL}/progress/", 404),
        (f"/admin/dbops/backup/{NUL}/pin/", 404),
        (f"/api/{NUL}", 404),
        ("/admin/accounts/user/?created_at__year=0", 302),
        ("/admin/accounts/accountevent/?at__year=99999999999", 302),
        ("/admin/dbops/journalentry/?at__year=99999999999", 302),
        ("/admin/accounts/session/?created_at__year=0", 302),
        ("/admin/accounts/invitation/?created_at__year=0", 302),
    ],
)
def test_what_no_column_can_hold_is_not_looked_for(path: str, status: int, client: Any) -> None:
    client.force_login(User.objects.create_superuser("root"))
    assert client.get(path).status_code == status
