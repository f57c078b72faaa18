"""Who gets in, who does not, and what the database is told of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import identify_hasher, make_password
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIRequestFactory
from rest_framework_simplejwt.exceptions import AuthenticationFailed, InvalidToken

from accounts.authentication import ActingJWTAuthentication
from accounts.limits import forget_guesses
from accounts.middleware import ActingUserMiddleware
from accounts.models import AccountEvent, Session, User

pytestmark = pytest.mark.django_db(databases=["default", "control"])
PASSWORD = "correct horse 7 battery"
LOGIN = "/accounts/login/"


@pytest.fixture
def user() -> User:
    return User.objects.create_user("nora", password=PASSWORD)


def _sign_in(client: Client, password: str = PASSWORD, **extra: str) -> Any:
    return client.post(LOGIN, {"username": "nora", "password": password, **extra})


def test_passwords_are_argon2id_at_owasp_minimum() -> None:
    encoded = make_password(PASSWORD)
    assert encoded.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")
    assert identify_hasher(encoded).verify(PASSWORD, encoded)


def test_signing_in_leads_to_the_dashboard_with_a_new_session_key(
    client: Client, user: User
) -> None:
    session = client.session
    session["before"] = 1
    session.save()
    before = session.session_key
    answer = _sign_in(client)
    assert answer.headers["Location"] == reverse("dashboard") == "/"
    assert client.session.session_key != before
    assert client.session["_auth_user_id"] == str(user.pk)


def test_a_wrong_password_and_an_inactive_account_get_the_same_answer(
    client: Client, user: User
) -> None:
    wrong = _sign_in(client, "wrong")
    User.objects.update(is_active=False)
    inactive = _sign_in(client)
    for answer in (wrong, inactive):
        assert answer.status_code == 200
        assert "_auth_user_id" not in client.session
    assert _alert(wrong) == _alert(inactive)


def _alert(answer: Any) -> str:
    return answer.content.decode().split('role="alert">')[1].split("</div>")[0]


@pytest.mark.parametrize(
    "next_url", ["//evil.example/", "https://evil.example/", "/\\evil.example"]
)
def test_next_stays_local(client: Client, user: User, next_url: str) -> None:
    assert _sign_in(client, next=next_url).headers["Location"] == "/"


def test_next_leads_on_to_our_own_page(client: Client, user: User) -> None:
    assert _sign_in(client, next="/admin/").headers["Location"] == "/admin/"


def test_who_is_signed_in_already_goes_to_the_dashboard(client: Client, user: User) -> None:
    client.force_login(user)
    answer = client.get(LOGIN, {"next": "/admin/"})
    assert answer.headers["Location"] == "/"


def test_the_admin_sends_who_may_not_enter_to_the_dashboard_and_not_in_a_circle(
    client: Client, user: User
) -> None:
    client.force_login(user)
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] == "/"
    assert "may not open that page" in answer.content.decode()


def test_the_admin_has_no_login_page_of_its_own(client: Client) -> None:
    answer = client.get("/admin/login/?next=/admin/")
    assert answer.headers["Location"] == f"{LOGIN}?next=/admin/"


def test_signing_out_is_a_post(client: Client, user: User) -> None:
    client.force_login(user)
    assert client.get("/accounts/logout/").status_code == 405
    assert "_auth_user_id" in client.session
    assert client.post("/accounts/logout/").headers["Location"] == LOGIN
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("path", [LOGIN, "/accounts/logout/"])
def test_every_post_needs_a_csrf_token(user: User, path: str) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    answer = strict.post(path, {"username": "nora", "password": PASSWORD})
    assert answer.status_code == 403
    assert "Nothing was done" in answer.content.decode()


def test_the_admin_keeps_the_people(admin_client: Client, user: User) -> None:
    answer = admin_client.get("/admin/accounts/user/")
    assert answer.status_code == 200
    assert "nora" in answer.content.decode()


# Tokens


def _tokens(client: Client, password: str = PASSWORD) -> Any:
    return client.post(
        "/api/auth/token/", {"username": "nora", "password": password}, "application/json"
    )


def _bearer(token: str) -> Any:
    return APIRequestFactory().get("/", headers={"Authorization": f"Bearer {token}"})


def test_a_password_buys_tokens_and_a_refresh_token_a_new_access_token(
    client: Client, user: User
) -> None:
    tokens = _tokens(client).json()
    answer = client.post(
        "/api/auth/token/refresh/", {"refresh": tokens["refresh"]}, "application/json"
    )
    for access in (tokens["access"], answer.json()["access"]):
        found = ActingJWTAuthentication().authenticate(_bearer(access))
        assert found is not None
        assert found[0] == user


def test_a_refresh_token_is_no_access_token(client: Client, user: User) -> None:
    with pytest.raises(InvalidToken):
        ActingJWTAuthentication().authenticate(_bearer(_tokens(client).json()["refresh"]))


def test_wrong_passwords_and_inactive_accounts_get_no_tokens(client: Client, user: User) -> None:
    assert _tokens(client, "wrong").status_code == 401
    User.objects.update(is_active=False)
    assert _tokens(client).status_code == 401


def test_disabling_an_account_ends_its_tokens(client: Client, user: User) -> None:
    tokens = _tokens(client).json()
    User.objects.update(is_active=False)
    with pytest.raises(AuthenticationFailed):
        ActingJWTAuthentication().authenticate(_bearer(tokens["access"]))
    answer = client.post(
        "/api/auth/token/refresh/", {"refresh": tokens["refresh"]}, "application/json"
    )
    assert answer.status_code == 401


def test_a_browser_session_opens_no_api(client: Client, user: User) -> None:
    client.force_login(user)
    request = APIRequestFactory().get("/", headers={"Cookie": client.cookies.output(header="")})
    assert ActingJWTAuthentication().authenticate(request) is None


# Who acts, as the database hears it


def _actor() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('skinspire.actor', true)")
        return str(cursor.fetchone()[0] or "")


def _request(user: Any) -> HttpRequest:
    request = RequestFactory().get("/")
    request.user = user
    return request


def test_the_database_knows_who_acts_for_one_request(user: User) -> None:
    heard: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        heard.append(_actor())
        return HttpResponse()

    ActingUserMiddleware(view)(_request(user))
    assert heard == ["nora"]
    assert _actor() == ""


def test_the_actor_does_not_outlive_a_request_that_fails(user: User) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ActingUserMiddleware(view)(_request(user))
    assert _actor() == ""


def test_a_cookie_does_not_say_who_guesses_in_the_api(client: Client, user: User) -> None:
    client.force_login(user)
    wrong = {"username": user.username, "password": "wrong"}
    client.post("/api/auth/token/", wrong, content_type="application/json")
    assert AccountEvent.objects.get(event="sign_in_failed").created_by is None


def test_an_access_token_names_its_owner_for_one_request(client: Client, user: User) -> None:
    heard: list[str] = []
    access = _tokens(client).json()["access"]

    def view(request: HttpRequest) -> HttpResponse:
        ActingJWTAuthentication().authenticate(_bearer(access))
        heard.append(_actor())
        return HttpResponse()

    ActingUserMiddleware(view)(_request(AnonymousUser()))
    assert heard == ["nora"]
    assert _actor() == ""


# What is kept of a sign-in


def _history() -> list[tuple[Any, ...]]:
    rows = AccountEvent.objects.exclude(event="account_created").order_by("id")
    return list(rows.values_list("event", "outcome", "username", "door", "address"))


def test_signing_in_failing_and_signing_out_are_written_down(client: Client, user: User) -> None:
    _sign_in(client, "wrong")
    _sign_in(client)
    client.post("/accounts/logout/")
    assert _history() == [
        ("sign_in_failed", "refused", "nora", "browser", "127.0.0.1"),
        ("signed_in", "done", "nora", "browser", "127.0.0.1"),
        ("signed_out", "done", "nora", "browser", "127.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("address", "kept"), [("", None), ("unix:", None), ("fe80::1%eth0", "fe80::1")]
)
def test_an_odd_address_keeps_nobody_out(
    client: Client, user: User, address: str, kept: str | None
) -> None:
    client.post(LOGIN, {"username": "nora", "password": PASSWORD}, REMOTE_ADDR=address)
    assert "_auth_user_id" in client.session
    assert _history()[-1][-1] == kept


def test_tokens_are_written_down_as_the_apis(client: Client, user: User) -> None:
    _tokens(client, "wrong")
    _tokens(client)
    assert _history() == [
        ("sign_in_failed", "refused", "nora", "api", "127.0.0.1"),
        ("signed_in", "done", "nora", "api", "127.0.0.1"),
    ]
    user.refresh_from_db()
    assert user.failed_sign_ins == 0


def test_neither_password_nor_an_unknown_name_is_kept(client: Client) -> None:
    for name in ("typed the passw0rd here", "\0"):
        client.post(LOGIN, {"username": name, "password": "wrong horse"})
        client.post("/api/auth/token/", {"username": name, "password": "x"}, "application/json")
    told = str(list(AccountEvent.objects.values()))
    assert "passw0rd" not in told
    assert "horse" not in told


def test_a_locked_account_is_let_in_by_neither_door_and_stays_in_where_it_is(
    client: Client, user: User
) -> None:
    inside = Client()
    inside.force_login(user)
    for _ in range(5):
        _sign_in(client, "wrong")
    wrong, right = _sign_in(client, "wrong"), _sign_in(client)
    assert _alert(wrong) == _alert(right)
    assert "_auth_user_id" not in client.session
    assert _tokens(client).status_code == 429
    assert inside.get("/").status_code == 200
    forget_guesses(User.objects.get(username="nora"))
    assert _sign_in(client).headers["Location"] == "/"


def test_saving_an_account_read_before_does_not_set_its_count_back(
    client: Client, user: User
) -> None:
    User.objects.update(failed_sign_ins=99)
    _sign_in(client, "wrong")
    user.first_name = "Nora"
    user.save()
    user.refresh_from_db()
    assert (user.first_name, user.failed_sign_ins, user.is_locked) == ("Nora", 100, True)


def test_active_sessions_are_those_not_over(user: User) -> None:
    soon, before = timezone.now() + timedelta(hours=1), timezone.now() - timedelta(hours=1)
    active = Session.objects.create(user=user, expires_at=soon)
    Session.objects.create(user=user, expires_at=before)
    ended = Session.objects.create(user=user, expires_at=soon)
    Session.objects.filter(pk=ended.pk).update(ended_at=timezone.now())
    assert list(Session.objects.active()) == [active]
