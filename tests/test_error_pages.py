"""Django's error pages in DEBUG, which show nearly everything a process knows."""

from __future__ import annotations

import sys

import pytest
from django.conf import settings
from django.http import HttpRequest
from django.test import RequestFactory
from django.views.debug import technical_500_response

from skinspire.error_pages import without_secrets
from skinspire.variables import env


def _page(request: HttpRequest, dsn: str, told: dict[str, str], keys: str) -> str:
    """As it shows an error here, with these local variables."""
    try:
        raise ValueError(f"odd: {dsn}", told, len(keys))
    except ValueError:
        return technical_500_response(request, *sys.exc_info()).content.decode()


# Further away from there than the lines an error page shows.
CANARY = "c4n4ry/of <mine>"
ESCAPED = "c4n4ry%2Fof%20%3Cmine%3E"
IDENTITY = "AGE-SECRET-KEY-C4N4RY"


def test_an_error_page_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the process, which runserver hands to every request, nor those in a frame."""
    url = f"postgresql://u:{ESCAPED}@h/d"
    monkeypatch.setattr(settings, "DEBUG", True)
    monkeypatch.setitem(settings.DATABASES, "elsewhere", {"PASSWORD": CANARY, "OPTIONS": {}})
    monkeypatch.setitem(env.read, "DEV_REPLICA_URL", url)
    monkeypatch.setitem(env.read, "BACKUP_IDENTITY", IDENTITY)
    request = RequestFactory().get("/")
    request.META |= {"DEV_REPLICA_URL": url, "BACKUP_IDENTITY": IDENTITY}
    page = _page(request, f"host=h password={CANARY}", {"dsn": url}, "c4n4ry by its name")
    assert "c4n4ry" not in page.lower()
    assert "host=h password=***" in page
    assert "ValueError" in page


def test_a_password_that_is_a_common_word_leaves_longer_words_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(settings.DATABASES, "elsewhere", {"PASSWORD": "postgres"})
    assert without_secrets("postgresql, 'postgres'") == "postgresql, '***'"
