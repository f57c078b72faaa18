"""Tokens: what opens the API, what does not, and what closes it at once."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db import connection, connections
from django.test import Client
from django.utils import timezone

from accounts import tokens
from accounts.models import AccountEvent, Session, User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse 7 battery"
AUTH = "/api/auth/"


@pytest.fixture(autouse=True)
def quick_hashes(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def nora() -> User:
    return User.objects.create_user("nora", password=PASSWORD)


@pytest.fixture
def pair(nora: User) -> dict[str, str]:
    answer = _post("token/", username="nora", password=PASSWORD)
    assert answer.status_code == 200
    return dict(answer.json())


def _post(path: str, access: str = "", **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {access}"} if access else {}
    return Client().post(AUTH + path, body, "application/json", headers=headers)


def _me(access: str) -> int:
    found = Client().get(f"{AUTH}me/", headers={"Authorization": f"Bearer {access}"})
    return int(found.status_code)


def _refresh(refresh: str) -> Any:
    return _post("token/refresh/", refresh=refresh)


def _all_answers(pair: dict[str, str]) -> dict[str, int]:
    """Of every endpoint that takes a token; the ones that change something last."""
    client, bearer = Client(), {"Authorization": f"Bearer {pair['access']}"}
    sid = jwt.decode(pair["access"], options={"verify_signature": False})["sid"]
    return {
        "me": client.get(f"{AUTH}me/", headers=bearer).status_code,
        "sessions": client.get(f"{AUTH}sessions/", headers=bearer).status_code,
        "verify access": _post("token/verify/", token=pair["access"]).status_code,
        "verify refresh": _post("token/verify/", token=pair["refresh"]).status_code,
        "refresh": _refresh(pair["refresh"]).status_code,
        "session": client.delete(f"{AUTH}sessions/{sid}/", headers=bearer).status_code,
        "logout": _post("logout/", pair["access"]).status_code,
        "logout by refresh": _post("logout/", refresh=pair["refresh"]).status_code,
    }


def test_a_program_signs_in_asks_who_it_is_and_leaves(nora: User, pair: dict[str, str]) -> None:
    bearer = {"Authorization": f"Bearer {pair['access']}"}
    me = Client().get(f"{AUTH}me/", headers=bearer).json()
    assert (me["username"], me["environment"]) == ("nora", "dev")
    sessions = Client().get(f"{AUTH}sessions/", headers=bearer).json()
    assert [(it["door"], it["current"]) for it in sessions] == [("api", True)]
    assert _post("logout/", pair["access"]).status_code == 204
    sid = Session.objects.get().pk
    events = AccountEvent.objects.filter(user=nora).exclude(session=None).order_by("id")
    assert list(events.values_list("event", "door", "session")) == [
        ("signed_in", "api", sid),
        ("signed_out", "api", sid),
    ]


def test_a_request_costs_two_queries(pair: dict[str, str], django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(2):  # the session with its user; the count of requests
        assert _post("token/verify/", token=pair["access"]).status_code == 200


def test_a_session_of_another_is_not_there(pair: dict[str, str]) -> None:
    User.objects.create_user("otto", password=PASSWORD)
    other = _post("token/", username="otto", password=PASSWORD).json()
    bearer = {"Authorization": f"Bearer {other['access']}"}
    sid = Session.objects.get(user__username="nora").pk
    assert Client().delete(f"{AUTH}sessions/{sid}/", headers=bearer).status_code == 404
    assert len(Client().get(f"{AUTH}sessions/", headers=bearer).json()) == 1
    assert _me(pair["access"]) == 200


def test_nothing_that_opens_is_kept(pair: dict[str, str]) -> None:
    kept = str([list(Session.objects.values()), list(AccountEvent.objects.values())])
    for token in pair.values():
        claims = jwt.decode(token, options={"verify_signature": False})
        assert token not in kept
        assert claims["jti"] not in kept
    assert sha256(claims["jti"].encode()).hexdigest() in kept


# Fault 61


def _claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def _key() -> tuple[str, bytes]:
    return tokens._keys().first


def _signed(claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
    kid, key = _key()
    return jwt.encode(claims, key, "HS256", headers={"kid": kid} | (header or {}))


def _raw(header: Any, claims: Any, signature: bytes = b"") -> str:
    parts = [it if isinstance(it, bytes) else json.dumps(it).encode() for it in (header, claims)]
    return ".".join(
        base64.urlsafe_b64encode(it).rstrip(b"=").decode() for it in (*parts, signature)
    )


_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_JWK = {"kty": "oct", "k": "c2VjcmV0"}
_FORGERIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "none": lambda it: _raw({"alg": "none", "kid": _key()[0]}, it),
    "None": lambda it: _raw({"alg": "None", "kid": _key()[0]}, it),
    "no signature": lambda it: _signed(it).rpartition(".")[0] + ".",
    "another algorithm, right key": lambda it: jwt.encode(
        it, _key()[1] * 2, "HS512", headers={"kid": _key()[0]}
    ),
    "RS256": lambda it: jwt.encode(it, _RSA, "RS256", headers={"kid": _key()[0]}),
    "jwk": lambda it: jwt.encode(
        it, b"secret" * 8, "HS256", headers={"jwk": _JWK, "kid": _key()[0]}
    ),
    "jwk, right key": lambda it: _signed(it, {"jwk": _JWK}),
    "jku": lambda it: _signed(it, {"jku": "http://127.0.0.1:1/keys"}),
    "x5u": lambda it: _signed(it, {"x5u": "http://127.0.0.1:1/keys"}),
    "crit": lambda it: _signed(it, {"crit": ["exp"]}),
    "kid of a file": lambda it: jwt.encode(it, b"\0" * 32, "HS256", headers={"kid": "/dev/null"}),
    "kid of SQL": lambda it: _signed(it, {"kid": "' OR 1=1 --"}),
    "kid a list": lambda it: _raw({"alg": "HS256", "kid": ["x"]}, it),
    "no kid": lambda it: jwt.encode(it, _key()[1], "HS256"),
    "SECRET_KEY itself": lambda it: jwt.encode(
        it, settings.SECRET_KEY, "HS256", headers={"kid": _key()[0]}
    ),
    "empty key": lambda it: _raw({"alg": "HS256", "kid": _key()[0]}, it, b""),
    "expired": lambda it: _signed(it | {"exp": it["iat"] - 1}),
    "not yet": lambda it: _signed(it | {"nbf": it["iat"] + 3600}),
    "issued later": lambda it: _signed(it | {"iat": it["iat"] + 3600}),
    "never expires": lambda it: _signed({k: v for k, v in it.items() if k != "exp"}),
    "of prod": lambda it: _signed(it | {"aud": "skinspire-prod"}),
    "of prod and dev": lambda it: _signed(it | {"aud": ["skinspire-prod", "skinspire-dev"]}),
    "for nobody": lambda it: _signed({k: v for k, v in it.items() if k != "aud"}),
    "of another issuer": lambda it: _signed(it | {"iss": "evil"}),
    "no session": lambda it: _signed({k: v for k, v in it.items() if k != "sid"}),
    "of another user": lambda it: _signed(it | {"sub": "0"}),
    "no type": lambda it: _signed({k: v for k, v in it.items() if k != "token_type"}),
    "no jti": lambda it: _signed({k: v for k, v in it.items() if k != "jti"}),
    "deep header": lambda it: _raw(b"[" * 1200, it),
    "deep claims": lambda _: _raw({"alg": "HS256", "kid": _key()[0]}, b"[" * 1200),
    "long": lambda it: _signed(it | {"more": "x" * 4000}),
    "no token": lambda _: "..",
    "not ASCII": lambda _: "é.ü.ö",
}


@pytest.mark.parametrize("forgery", _FORGERIES)
def test_a_forged_token_opens_nothing(pair: dict[str, str], forgery: str) -> None:
    """Fault 61: none, HS/RS confusion, jwk, jku, kid, expired, not yet valid, of elsewhere."""
    forge = _FORGERIES[forgery]
    forged = {kind: forge(_claims(token)) for kind, token in pair.items()}
    assert _me(forged["access"]) == 401
    assert _refresh(forged["refresh"]).status_code == 401
    for token in forged.values():
        assert _post("token/verify/", token=token).status_code in (400, 401)
    assert _me(pair["access"]) == 200  # and nobody was thrown out by it


def test_each_token_is_good_for_its_own_purpose(pair: dict[str, str]) -> None:
    """Fault 61: a refresh token is no access token, nor the other way."""
    assert _me(pair["refresh"]) == 401
    assert _refresh(pair["access"]).status_code == 401
    assert _post("logout/", refresh=pair["access"]).status_code == 401
    claims = _claims(pair["refresh"])
    assert _me(_signed(claims | {"token_type": ["access"]})) == 401


def test_a_token_of_prod_is_nothing_in_dev(pair: dict[str, str], settings: Any) -> None:
    """Fault 61: with the same SECRET_KEY in both, signature and audience differ."""
    claims = _claims(pair["access"])
    settings.ENVIRONMENT = type(settings.ENVIRONMENT)("prod", "")
    kid, key = next(iter(tokens.Keys().by_name.items()))
    token = jwt.encode(claims, key, "HS256", headers={"kid": kid})
    assert _me(token) == 401


def test_keys_rotate(pair: dict[str, str], settings: Any) -> None:
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 50, [old]
    assert _me(pair["access"]) == 200
    answer = _refresh(pair["refresh"])
    assert answer.status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert _me(answer.json()["access"]) == 200  # signed by the new one
    assert _me(pair["access"]) == 401


def test_processes_with_the_old_and_the_new_key_agree_on_a_successor(
    pair: dict[str, str], settings: Any
) -> None:
    old = settings.SECRET_KEY
    first = _refresh(pair["refresh"]).json()["refresh"]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 50, [old]
    second = _refresh(pair["refresh"]).json()["refresh"]
    assert _claims(first) == _claims(second)


# Fault 62


def _sign_out(pair: dict[str, str]) -> None:
    assert _post("logout/", pair["access"]).status_code == 204


def _sign_out_by_refresh(pair: dict[str, str]) -> None:
    assert _post("logout/", refresh=pair["refresh"]).status_code == 204


def _end_own(pair: dict[str, str]) -> None:
    again = _post("token/", username="nora", password=PASSWORD).json()["access"]
    sid = _claims(pair["access"])["sid"]
    answer = Client().delete(f"{AUTH}sessions/{sid}/", headers={"Authorization": f"Bearer {again}"})
    assert answer.status_code == 204


def _change_password(_: dict[str, str]) -> None:
    user = User.objects.get(username="nora")
    user.set_password("another horse 8 battery")
    user.save()


_ENDS: dict[str, tuple[str, Callable[[dict[str, str]], Any]]] = {
    "logout": ("signed_out", _sign_out),
    "logout by refresh": ("signed_out", _sign_out_by_refresh),
    "ended from elsewhere": ("ended_by_user", _end_own),
    "disabled": ("disabled", lambda _: User.objects.update(is_active=False)),
    "locked by hand": (
        "locked",
        lambda _: User.objects.update(locked_until=timezone.now() + timedelta(hours=1)),
    ),
    "password changed": ("password_changed", _change_password),
    "password changed by SQL": ("password_changed", lambda _: User.objects.update(password="x")),
    "ended by an admin's hand": (
        "ended",
        lambda _: Session.objects.update(ended_at=timezone.now()),
    ),
}


@pytest.mark.parametrize("end", _ENDS)
def test_what_ends_a_session_ends_both_tokens_everywhere_at_once(
    pair: dict[str, str], end: str
) -> None:
    """Fault 62: logout, disabling, a changed password and revocation end access and refresh."""
    reason, act = _ENDS[end]
    sid = _claims(pair["access"])["sid"]
    act(pair)
    assert set(_all_answers(pair).values()) == {401}
    assert Session.objects.get(pk=sid).end_reason == reason


def test_every_answer_is_200_while_the_session_lives(pair: dict[str, str]) -> None:
    """Fault 62, the other way round: the test above would see what it looks for."""
    answers = _all_answers(pair)
    assert [code for code in answers.values() if code != 200] == [204, 401, 401]


def test_a_deleted_account_has_no_tokens(pair: dict[str, str]) -> None:
    """Fault 62: nor has one that is gone."""
    User.objects.get(username="nora").delete()
    assert set(_all_answers(pair).values()) == {401}


# Fault 63


def _let_pass(seconds: float) -> None:
    """As if the last rotation had been that long ago."""
    earlier = timezone.now() - timedelta(seconds=seconds)
    assert Session.objects.filter(rotated_at__isnull=False).update(rotated_at=earlier)


def test_a_refresh_token_makes_one_pair(pair: dict[str, str]) -> None:
    answer = _refresh(pair["refresh"])
    assert answer.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    following = answer.json()
    assert following["refresh"] != pair["refresh"]
    assert _me(following["access"]) == _me(pair["access"]) == 200
    assert _refresh(following["refresh"]).status_code == 200
    old, new = _claims(pair["refresh"]), _claims(following["refresh"])
    assert (old["sid"], old["exp"]) == (new["sid"], new["exp"])


def test_a_replayed_refresh_token_ends_the_family(pair: dict[str, str]) -> None:
    """Fault 63: after rotation and some seconds, used again by whoever: all of it is over."""
    other = _post("token/", username="nora", password=PASSWORD).json()
    following = _refresh(pair["refresh"]).json()
    _let_pass(6)
    assert _refresh(pair["refresh"]).status_code == 401
    assert _me(following["access"]) == _me(pair["access"]) == 401
    assert _refresh(following["refresh"]).status_code == 401
    assert _me(other["access"]) == 200  # another sign-in, another family
    ended = Session.objects.get(end_reason="replayed")
    events = AccountEvent.objects.filter(session=ended.pk, event="token_replayed")
    assert [it.outcome for it in events] == ["refused"]


def test_only_the_immediate_predecessor_is_tolerated(pair: dict[str, str]) -> None:
    """Fault 63: the token before the last ends the family, however soon it comes."""
    following = _refresh(pair["refresh"]).json()
    assert _refresh(following["refresh"]).status_code == 200
    assert _refresh(pair["refresh"]).status_code == 401
    assert _refresh(following["refresh"]).status_code == 401
    assert Session.objects.get().end_reason == "replayed"


def test_a_request_that_was_under_way_gets_the_same_successor(pair: dict[str, str]) -> None:
    """Fault 63: within the seconds of grace, the very same."""
    first, second = (_refresh(pair["refresh"]).json()["refresh"] for _ in range(2))
    assert first == second
    assert _refresh(first).status_code == 200
    assert AccountEvent.objects.filter(event="token_refreshed").count() == 2


def test_verifying_a_rotated_token_ends_nothing(pair: dict[str, str]) -> None:
    following = _refresh(pair["refresh"]).json()
    assert _post("token/verify/", token=pair["refresh"]).status_code == 401
    assert _post("token/verify/", token=following["refresh"]).json()["token_type"] == "refresh"
    assert _refresh(following["refresh"]).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_fifty_refreshes_at_once_one_wins_and_nobody_is_thrown_out(nora: User) -> None:
    """Fault 63: 50 parallel refreshes, one winner; the others hold what the winner holds."""
    refresh = _post("token/", username="nora", password=PASSWORD).json()["refresh"]
    together, answers = threading.Barrier(50), []

    def ask() -> None:
        together.wait()
        try:
            answers.append(_refresh(refresh))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [it.status_code for it in answers] == [200] * 50
    assert len({it.json()["refresh"] for it in answers}) == 1
    assert AccountEvent.objects.filter(event="token_refreshed").count() == 1
    assert Session.objects.get().ended_at is None
    assert _refresh(answers[0].json()["refresh"]).status_code == 200


def test_a_session_that_ends_takes_its_tokens_times_along(pair: dict[str, str]) -> None:
    soon = timezone.now() + timedelta(seconds=60)
    Session.objects.update(expires_at=soon)
    following = _refresh(pair["refresh"]).json()
    for token in following.values():
        assert _claims(token)["exp"] <= soon.timestamp()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_session SET expires_at = clock_timestamp()")
    assert set(_all_answers(following).values()) == {401}
