"""Sessions of both doors: how they begin, who they let in, and what ends them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import connection
from django.test import RequestFactory
from django.utils import timezone

from accounts.models import AccountEvent, Door, Session, User
from accounts.sessions import (
    AccountInactive,
    AccountLocked,
    PasswordReplaced,
    end_session,
    end_sessions_of,
    keeping,
    live_session,
    open_session,
    touch,
)

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse 7 battery"


@pytest.fixture
def nora() -> User:
    return User.objects.create_user("nora", password=PASSWORD)


def _open(user: User, door: str = Door.API) -> Session:
    request = RequestFactory().get("/", headers={"User-Agent": "a program"})
    return open_session(user, door=door, request=request, lifetime=timedelta(hours=1))


def _ended(session: Session) -> str:
    session.refresh_from_db()
    assert (session.ended_at is None) == (session.end_reason == "")
    return session.end_reason


def _history() -> list[tuple[Any, ...]]:
    rows = AccountEvent.objects.exclude(session=None).order_by("id")
    return list(rows.values_list("event", "door", "session", "detail"))


def test_a_session_begins_and_is_written_down(nora: User) -> None:
    session = _open(nora)
    assert (session.address, session.device) == ("127.0.0.1", "a program")
    assert _history() == [("signed_in", "api", session.pk, "")]
    nora.refresh_from_db()
    assert nora.last_login is not None


def test_a_live_session_comes_with_its_user_in_one_query(
    nora: User, django_assert_num_queries: Any
) -> None:
    session = _open(nora)
    with django_assert_num_queries(1):
        found = live_session(str(session.pk))
        assert found is not None
        assert found.user == nora
    by_the_orm = Session.objects.active().select_related("user").get()
    for mine, theirs in ((found, by_the_orm), (found.user, by_the_orm.user)):
        assert {k: v for k, v in vars(mine).items() if k != "_state"} == {
            k: v for k, v in vars(theirs).items() if k != "_state"
        }


@pytest.mark.parametrize("sid", [None, "", "x", 7, "\0", uuid.uuid4(), ["a"]])
def test_what_names_no_session_lets_nobody_in(nora: User, sid: object) -> None:
    _open(nora)
    assert live_session(sid) is None


def test_no_session_begins_for_a_locked_or_disabled_account(nora: User) -> None:
    User.objects.update(locked_until=timezone.now() + timedelta(hours=1))
    with pytest.raises(AccountLocked):
        _open(nora)
    User.objects.update(locked_until=None, is_active=False)
    with pytest.raises(AccountInactive):
        _open(nora)
    assert not AccountEvent.objects.filter(event="signed_in").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_active": False}, "disabled"),
        ({"locked_until": timezone.now() + timedelta(days=1)}, "locked"),
        ({"password": "by whatever hand"}, "password_changed"),
    ],
)
def test_an_account_that_changes_takes_its_sessions_along(
    nora: User, change: dict[str, Any], reason: str
) -> None:
    session = _open(nora)
    other = _open(User.objects.create_user("otto"))
    User.objects.filter(pk=nora.pk).update(**change)
    assert live_session(session.pk) is None
    assert _ended(session) == reason
    assert live_session(other.pk) is not None


def test_guessing_locks_the_account_and_throws_nobody_out(nora: User) -> None:
    session = _open(nora)
    User.objects.update(failed_sign_ins=95)
    for _ in range(7):
        AccountEvent.objects.create(event="sign_in_failed", user=nora)
    nora.refresh_from_db()
    assert nora.is_locked
    assert live_session(session.pk) is not None


def test_who_changes_the_own_password_stays(nora: User) -> None:
    here, there = _open(nora), _open(nora)
    nora.set_password("another horse 8 battery")
    with keeping(here):
        nora.save()
    assert (_ended(here), _ended(there)) == ("", "password_changed")
    nora.set_password("a third horse 9 battery")
    nora.save()
    assert _ended(here) == "password_changed"


def test_a_renewed_hash_is_no_changed_password(nora: User) -> None:
    User.objects.update(password=PBKDF2PasswordHasher().encode(PASSWORD, "salt", 1))
    nora.refresh_from_db()
    session = _open(nora)
    assert nora.check_password(PASSWORD)
    nora.refresh_from_db()
    assert nora.password.startswith("argon2$")
    assert _ended(session) == ""
    User.objects.update(password="x")  # nothing of it is left for what comes next
    assert _ended(session) == "password_changed"


def test_no_session_begins_by_a_password_that_was_changed_meanwhile(nora: User) -> None:
    """Fault 62: a sign-in under way does not outlive the password it came by."""
    asked = User.objects.get(pk=nora.pk)
    nora.set_password("quite another 8 staple")
    nora.save()
    with pytest.raises(PasswordReplaced):
        _open(asked)
    assert not Session.objects.filter(user=nora).exists()
    assert _open(nora)


def test_a_session_ends_once(nora: User) -> None:
    admin = User.objects.create_superuser("root")
    session = _open(nora)
    assert end_session(session, "ended_by_admin", admin)
    assert not end_session(session, "signed_out", nora)
    assert _ended(session) == "ended_by_admin"
    assert _history()[1:] == [("session_ended", "api", session.pk, "ended_by_admin by root")]


def test_all_others_end_and_this_one_stays(nora: User) -> None:
    sessions = [_open(nora) for _ in range(3)]
    assert end_sessions_of(nora, "ended_by_user", nora, keep=sessions[1].pk) == 2
    assert [_ended(it) for it in sessions] == ["ended_by_user", "", "ended_by_user"]


def test_the_oldest_ends_beyond_the_limit(nora: User) -> None:
    sessions = [_open(nora) for _ in range(6)]
    assert [_ended(it) for it in sessions] == ["limit", "", "", "", "", ""]


def test_seen_is_written_at_most_once_a_minute(nora: User, django_assert_num_queries: Any) -> None:
    session = _open(nora)
    with django_assert_num_queries(0):
        touch(session, None)
    earlier = timezone.now() - timedelta(minutes=2)
    Session.objects.update(last_seen_at=earlier)
    session.refresh_from_db()
    touch(session, None)
    touch(session, None)
    session.refresh_from_db()
    assert session.last_seen_at > earlier


def test_a_session_ends_by_itself(nora: User) -> None:
    session = _open(nora)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_session SET expires_at = clock_timestamp()")
    assert live_session(session.pk) is None
    assert end_session(session, "signed_out", nora)
    assert _ended(session) == "expired"
