"""The second factor: asked for, counted, needed by role, and never readable."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connections
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import second_factor
from accounts.models import AccountEvent, RecoveryCode, Session, User

pytestmark = pytest.mark.django_db(databases=["default", "control"])
PASSWORD = "correct horse 7 battery"
LOGIN, CODE = "/accounts/login/", "/accounts/login/code/"
PAGE = "/accounts/second-factor/"


@pytest.fixture
def nora() -> User:
    return User.objects.create_user("nora", "nora@example.org", PASSWORD)


def told(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def code_of(device: TOTPDevice) -> str:
    return f"{TOTP(device.bin_key, drift=0).token():06d}"


def unused(user: User) -> None:
    """As if half a minute had passed: the next code may be used, and wrong ones are forgotten."""
    TOTPDevice.objects.filter(user=user).update(last_t=-1, throttling_failure_count=0)


def step_one(client: Client, **extra: Any) -> Any:
    return client.post(LOGIN, {"username": "nora", "password": PASSWORD, **extra})


def set_up(client: Client) -> list[str]:
    """Through the pages, as a person does."""
    assert client.post(f"{PAGE}begin/").headers["Location"] == f"{PAGE}set-up/"
    device = TOTPDevice.objects.get(confirmed=False)
    page = told(client.get(f"{PAGE}set-up/"))
    assert 'src="data:image/svg+xml' in page
    assert second_factor.typed(device) in page
    answer = client.post(f"{PAGE}set-up/", {"code": code_of(device)})
    return re.findall(r"<li><code>([\w-]+)</code>", answer.content.decode())


@pytest.fixture
def codes(nora: User) -> list[str]:
    """Nora has one, and these recovery codes."""
    client = Client()
    step_one(client)
    codes = set_up(client)
    client.post("/accounts/logout/")
    unused(nora)
    return codes


def test_a_password_alone_opens_nothing_any_more(nora: User, codes: list[str]) -> None:
    client = Client()
    answer = step_one(client, next="/environments/", remember="on")
    assert answer.headers["Location"] == f"{CODE}?next=%2Fenvironments%2F"
    assert client.get("/").headers["Location"].startswith(LOGIN)
    assert Session.objects.active().count() == 0
    wrong = client.post(CODE, {"code": "000000"})
    assert "not the code of this moment" in told(wrong)
    unused(nora)
    code = code_of(TOTPDevice.objects.get())
    answer = client.post(answer.headers["Location"], {"code": code})
    assert answer.headers["Location"] == "/environments/"
    assert client.get("/accounts/sessions/").status_code == 200
    assert client.cookies["skinspire_dev_session"]["max-age"] == 14 * 86400
    second = Client()
    step_one(second)
    assert "used already" in told(second.post(CODE, {"code": code}))


def test_recovery_codes_open_once_each_and_are_kept_as_hashes(nora: User, codes: list[str]) -> None:
    assert len(set(codes)) == 10
    kept = str(list(RecoveryCode.objects.values()))
    assert not any(code in kept or code.replace("-", "") in kept for code in codes)
    for attempt, opens in ((codes[0].upper(), True), (codes[0], False), (codes[1], True)):
        client = Client()
        step_one(client)
        client.post(CODE, {"code": attempt})
        assert (client.get("/accounts/sessions/").status_code == 200) == opens
        unused(nora)
    assert second_factor.codes_left(nora) == 8


def test_wrong_codes_wait_longer_each_time_and_never_for_good(nora: User, codes: list[str]) -> None:
    client = Client()
    step_one(client)
    client.post(CODE, {"code": "000000"})
    client.post(CODE, {"code": "nonsense"})
    answer = client.post(CODE, {"code": codes[0]})
    assert answer.status_code in (429, 200)
    TOTPDevice.objects.update(throttling_failure_count=10)
    written = AccountEvent.objects.count()
    answer = client.post(CODE, {"code": code_of(TOTPDevice.objects.get())})
    assert answer.status_code == 429
    assert AccountEvent.objects.count() == written
    assert int(answer.headers["Retry-After"]) > 0
    TOTPDevice.objects.update(throttling_failure_timestamp="2020-01-01T00:00:00Z")
    client.post(CODE, {"code": "000000"})
    assert TOTPDevice.objects.get().throttling_failure_count == 10
    assert AccountEvent.objects.filter(event="second_factor_failed").count() >= 2


def test_the_second_step_ends_with_the_password_and_with_time(nora: User, codes: list[str]) -> None:
    client = Client()
    step_one(client)
    nora.set_password("quite another 8 staple")
    nora.save()
    assert client.get(CODE).headers["Location"] == LOGIN
    assert Client().get(CODE).headers["Location"] == LOGIN


def test_setting_it_up_ends_sessions_that_came_without(nora: User) -> None:
    here, there = Client(), Client()
    step_one(here)
    step_one(there)
    assert len(set_up(here)) == 10
    assert here.get("/accounts/sessions/").status_code == 200
    assert there.get("/accounts/sessions/").status_code == 302


def test_a_wrong_first_code_sets_nothing_up(nora: User) -> None:
    client = Client()
    step_one(client)
    client.post(f"{PAGE}begin/")
    assert "Is the clock right?" in told(client.post(f"{PAGE}set-up/", {"code": "000000"}))
    assert not second_factor.has_second_factor(nora)
    assert client.post(f"{PAGE}set-up/", {"code": "000000"}).status_code == 429


@pytest.mark.parametrize(
    ("permission", "needed"), [("restore_prod", True), ("copy", True), ("back_up_prod", False)]
)
def test_whoever_may_change_production_needs_one_whatever_the_role_is_called(
    nora: User, settings: Any, permission: str, needed: bool
) -> None:
    settings.ACCOUNT_SECOND_FACTOR = ["some role"]
    own = Group.objects.create(name="of our own")
    own.permissions.add(Permission.objects.get(codename=permission))
    nora.groups.add(own)
    assert second_factor.needs_second_factor(User.objects.get()) == needed
    settings.ACCOUNT_SECOND_FACTOR = []
    assert not second_factor.needs_second_factor(User.objects.get())


def test_a_role_that_needs_one_gets_no_further_without(nora: User, settings: Any) -> None:
    settings.ACCOUNT_SECOND_FACTOR = ["operator"]
    client = Client()
    step_one(client)
    assert client.get("/").status_code == 200
    nora.groups.add(Group.objects.get_or_create(name="operator")[0])
    answer = client.get("/environments/")
    assert answer.headers["Location"] == f"{PAGE}?next=%2Fenvironments%2F"
    assert "Your role needs one" in told(client.get(answer.headers["Location"]))
    assert client.post("/").headers["Location"] == PAGE
    set_up(client)
    assert client.get("/").status_code == 200
    client.post(f"{PAGE}remove/")
    assert second_factor.has_second_factor(nora)


def test_it_is_removed_and_renewed_by_its_owner(nora: User, codes: list[str]) -> None:
    client = Client()
    step_one(client)
    client.post(CODE, {"code": code_of(TOTPDevice.objects.get())})
    renewed = re.findall(r"<li><code>([\w-]+)<", client.post(f"{PAGE}codes/").content.decode())
    assert len(renewed) == 10
    assert not set(renewed) & set(codes)
    client.post(f"{PAGE}remove/")
    assert not second_factor.has_second_factor(nora)
    assert not RecoveryCode.objects.exists()


def test_an_administrator_removes_it_and_sees_no_secret(nora: User, codes: list[str]) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    client = Client()
    client.post(LOGIN, {"username": "root", "password": PASSWORD})
    assert "otp_totp" not in told(client.get("/admin/"))
    action = {"action": "remove_second_factor", "_selected_action": [nora.pk]}
    client.post("/admin/accounts/user/", action)
    assert not second_factor.has_second_factor(nora)
    event = AccountEvent.objects.get(event="second_factor_removed")
    assert (event.username, event.detail) == ("nora", "by root")


def test_a_recent_proof_takes_both(nora: User, codes: list[str]) -> None:
    client = Client()
    step_one(client)
    client.post(CODE, {"code": code_of(TOTPDevice.objects.get())})
    unused(nora)
    right = {"password": PASSWORD, "code": codes[3]}
    assert client.post("/accounts/confirm/", right | {"code": ""}).status_code == 200
    assert client.post("/accounts/confirm/", right).status_code == 302


def test_a_changed_password_is_no_proof_of_the_second_factor(nora: User, codes: list[str]) -> None:
    client = Client()
    step_one(client)
    client.post(CODE, {"code": codes[0]})
    session = client.session
    session["proven_at"] = 0
    session.save()
    new = "quite another 8 staple"
    form = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert client.post("/accounts/password/", form).status_code == 302
    answer = client.post(f"{PAGE}remove/")
    assert answer.headers["Location"].startswith("/accounts/confirm/")


@pytest.mark.django_db(transaction=True, databases=["default", "control"])
def test_parallel_guesses_are_counted_one_by_one(nora: User) -> None:
    TOTPDevice.objects.create(user=nora, confirmed=True)
    outcomes: list[str] = []

    def guess() -> None:
        try:
            right = second_factor.check_code(nora, "000000", door="api", request=None)
            outcomes.append(str(right))
        except second_factor.TooManyCodes:
            outcomes.append("429")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["429"] * 7 + ["False"]
    assert TOTPDevice.objects.get().throttling_failure_count == 1


def _tokens(**more: str) -> Any:
    given = {"username": "nora", "password": PASSWORD, **more}
    return Client().post("/api/auth/token/", given, "application/json")


def test_tokens_take_the_second_factor_too(nora: User, codes: list[str], settings: Any) -> None:
    answer = _tokens()
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/problem+json")
    assert "as otp" in answer.json()["detail"]
    assert _tokens(otp="000000").status_code == 401
    assert _tokens(otp=codes[0]).status_code == 429
    unused(nora)
    assert _tokens(otp=code_of(TOTPDevice.objects.get())).status_code == 200
    assert Session.objects.active().count() == 1
    second_factor.TOTPDevice.objects.all().delete()
    settings.ACCOUNT_SECOND_FACTOR = ["operator"]
    assert _tokens().status_code == 200
    nora.groups.add(Group.objects.get_or_create(name="operator")[0])
    assert "in the browser first" in _tokens().json()["detail"]
