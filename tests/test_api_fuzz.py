"""Whatever the schema allows, and what it does not, asked by each role."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as bounded
from rest_framework.test import APIRequestFactory
from schemathesis import Case, GenerationMode
from schemathesis.core import NotSet

from accounts import tokens
from accounts.models import Session, User
from tests.roles import ROLES, person, ship_roles

pytestmark = pytest.mark.django_db(databases=["default", "control"])
_EXAMPLES = 15
"""Of each operation, for each role, of what is allowed and of what is not."""


@pytest.fixture(autouse=True)
def quick_and_unlimited(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.API_LIMITS = dict.fromkeys(settings.API_LIMITS, 0)


class Role:
    """Asks as somebody; signs in again where what it asked has signed it out."""

    def __init__(self, name: str) -> None:
        self.client = Client(raise_request_exception=False)
        self.user: User | None = None
        if name != "anonymous":
            ship_roles()
            self.user = person(name)
        self._access = ""

    def ask(self, case: Case) -> Any:
        headers = {key: str(value) for key, value in (case.headers or {}).items()}
        body = b"" if isinstance(case.body, NotSet) else _encoded(case.body)
        return self.client.generic(
            case.method,
            _ascii(case.formatted_path),
            body,
            case.media_type or "application/json",
            query_params=case.query or {},
            headers=headers | self._bearer(),
        )

    def _bearer(self) -> dict[str, str]:
        if self.user is None:
            return {}
        if not Session.objects.filter(user=self.user).active().exists():
            self._access = tokens.sign_in(self.user, APIRequestFactory().get("/")).access
        return {"Authorization": f"Bearer {self._access}"}


def _encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, default=str).encode()


def _ascii(path: str) -> str:
    return path.encode("ascii", "replace").decode()


def _operations() -> list[Any]:
    answer = Client().get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
    schema = schemathesis.openapi.from_dict(json.loads(answer.content))
    return [found.ok() for found in schema.get_all_operations()]


@pytest.mark.parametrize("name", ["anonymous", *ROLES])
def test_nothing_the_schema_allows_or_forbids_breaks_or_opens_anything(name: str) -> None:
    """Fault 52: schema-driven fuzzing for each role: no 5xx, no bypass."""
    role, seen = Role(name), set()
    for operation in _operations():
        for mode in GenerationMode:
            seen |= _ask_often(role, operation, mode)
    assert seen >= ({400, 401} if name == "anonymous" else {200, 204, 400, 401, 404})


def _ask_often(role: Role, operation: Any, mode: GenerationMode) -> set[int]:
    """The codes of the answers."""
    security = operation.definition.raw.get("security", [{}])
    shut = role.user is None and {} not in security
    seen = set()

    @bounded(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        answer = role.ask(case)
        seen.add(answer.status_code)
        _require_sound(answer, case)
        assert not shut or answer.status_code >= 400, case.as_curl_command()

    ask()
    return seen


def _require_sound(answer: Any, case: Case) -> None:
    assert answer.status_code < 500, case.as_curl_command()
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
