"""People, roles, sessions and the history in the admin: what is done there, and by whom not."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from accounts.limits import take_guess
from accounts.models import AccountEvent, Session, User
from tests.roles import person, ship_roles

pytestmark = pytest.mark.django_db(databases=["default", "control"])
PEOPLE = "/admin/accounts/user/"
HISTORY = "/admin/accounts/accountevent/"


@pytest.fixture
def administrator() -> User:
    ship_roles()
    return person("administrator")


@pytest.fixture
def desk(administrator: User, client: Client) -> Client:
    client.force_login(administrator)
    return client


def _save(client: Client, user: User, **fields: Any) -> Any:
    form = {"username": user.username, "email": user.email, "first_name": "", "last_name": "",
            "is_active": "on", "groups": []}  # fmt: skip
    return client.post(f"{PEOPLE}{user.pk}/change/", form | fields)


def _do(client: Client, action: str, *users: User) -> Any:
    form = {"action": action, "_selected_action": [user.pk for user in users]}
    return client.post(PEOPLE, form, follow=True)


def _history(*columns: str, **wanted: Any) -> list[Any]:
    rows = AccountEvent.objects.filter(**wanted).order_by("pk")
    return list(rows.values_list(*columns, flat=len(columns) == 1))


def _begin(user: User) -> Session:
    later = timezone.now() + timedelta(hours=1)
    return Session.objects.create(user=user, expires_at=later)


def test_nobody_changes_the_own_password_without_the_old_one(
    desk: Client, administrator: User
) -> None:
    new = {"password1": "quite another 8 staple", "password2": "quite another 8 staple",
           "usable_password": "true"}  # fmt: skip
    for method in (desk.get, desk.post):
        answer = method(f"{PEOPLE}{administrator.pk}/password/", new)
        assert answer.headers["Location"] == "/accounts/password/"
    omar = User.objects.create_user("omar")
    assert desk.post(f"{PEOPLE}{omar.pk}/password/", new).status_code == 302
    omar.refresh_from_db()
    assert omar.check_password("quite another 8 staple")


def test_an_account_is_deleted_with_its_sessions_and_not_its_history(client: Client) -> None:
    omar, root = User.objects.create_user("omar"), User.objects.create_superuser("root")
    Client().force_login(omar)
    client.force_login(root)
    assert client.post(f"{PEOPLE}{omar.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="omar").exists()
    assert not Session.objects.exclude(user=root).exists()
    assert _history("event", username="omar")[-1] == "account_deleted"


# Nobody rises


def test_nobody_makes_himself_or_others_a_superuser(desk: Client, administrator: User) -> None:
    """Fault 66: is_superuser and single permissions are ignored, on whosever page."""
    omar = User.objects.create_user("omar")
    every = list(Permission.objects.values_list("pk", flat=True))
    for user in (administrator, omar):
        wanted = {"is_superuser": "on", "is_staff": "on", "user_permissions": every,
                  "groups": [it.pk for it in user.groups.all()]}  # fmt: skip
        assert _save(desk, user, **wanted).status_code == 302
        user.refresh_from_db()
        assert user.is_staff
        assert not user.is_superuser
        assert not user.user_permissions.exists()


def test_a_new_account_is_made_without_more_than_its_maker_has(desk: Client) -> None:
    """Fault 66: in the admin, too."""
    password = "correct horse 7 battery"
    form = {"username": "omar", "password1": password, "password2": password,
            "usable_password": "true", "is_superuser": "on", "is_staff": "on"}  # fmt: skip
    assert desk.post(f"{PEOPLE}add/", form).status_code == 302
    omar = User.objects.get(username="omar")
    assert (omar.is_superuser, omar.is_staff) == (False, False)


def test_who_may_more_is_not_touched(desk: Client) -> None:
    """Fault 66: neither changed, nor given a password, nor locked."""
    root = person("superuser")
    strong = User.objects.create_user("strong", is_active=False)  # may be enabled again
    strong.user_permissions.add(Permission.objects.get(codename="delete_group"))
    for user in (root, strong):
        assert _save(desk, user, first_name="Mine").status_code == 403
        assert desk.get(f"{PEOPLE}{user.pk}/password/").status_code == 403
        answer = _do(desk, "lock", user)
        assert "1 left alone: they may more than you." in answer.content.decode()
        user.refresh_from_db()
        assert (user.first_name, user.is_locked) == ("", False)


def test_roles_are_handed_out_up_to_ones_own(desk: Client) -> None:
    omar = User.objects.create_user("omar")
    above = Group.objects.create(name="above")
    above.permissions.add(Permission.objects.get(codename="delete_group"))
    operator = Group.objects.get(name="operator")
    assert _save(desk, omar, groups=[operator.pk]).status_code == 302
    assert _save(desk, omar, groups=[operator.pk, above.pk]).status_code == 200  # asked again
    assert [it.name for it in omar.groups.all()] == ["operator"]


def test_of_roles_nobody_changes_what_is_above_him(client: Client) -> None:
    ship_roles()
    keeper = User.objects.create_user("keeper", is_staff=True)
    keeper.user_permissions.add(
        *Permission.objects.filter(codename__in=["change_group", "view_group", "view_backup"])
    )
    client.force_login(keeper)
    own, above = Group.objects.create(name="own"), Group.objects.get(name="administrator")
    form = {"name": "own", "permissions": [Permission.objects.get(codename="restore").pk]}
    assert client.post(f"/admin/auth/group/{own.pk}/change/", form).status_code == 200
    form["permissions"] = [Permission.objects.get(codename="view_backup").pk]
    assert client.post(f"/admin/auth/group/{own.pk}/change/", form).status_code == 302
    assert client.post(f"/admin/auth/group/{above.pk}/change/", form).status_code == 403
    assert [it.codename for it in own.permissions.all()] == ["view_backup"]


# What is done to accounts


def test_locking_throws_out_and_unlocking_forgets(desk: Client) -> None:
    omar = User.objects.create_user("omar")
    session = _begin(omar)
    _do(desk, "lock", omar)
    omar.refresh_from_db()
    session.refresh_from_db()
    assert omar.is_locked
    assert session.end_reason == "locked"
    take_guess("omar", "192.0.2.1")
    _do(desk, "unlock", omar)
    omar.refresh_from_db()
    assert not omar.is_locked
    assert take_guess("omar", "192.0.2.1").reached == ()
    told = _history("event", "created_by", user=omar, event__in=["locked", "unlocked"])
    assert told == [("locked", "a-administrator"), ("unlocked", "a-administrator")]


def test_sessions_are_seen_and_ended_by_person_and_one_by_one(desk: Client) -> None:
    omar = User.objects.create_user("omar")
    first = _begin(omar)
    _do(desk, "end_sessions", omar)
    second = _begin(omar)
    page = desk.get("/admin/accounts/session/?open=yes").content.decode()
    assert f"{second.pk}" in page
    assert f"{first.pk}" not in page
    form = {"action": "end", "_selected_action": [second.pk]}
    desk.post("/admin/accounts/session/", form)
    for session in (first, second):
        session.refresh_from_db()
        assert session.end_reason == "ended_by_admin"
    told = _history("detail", user=omar, event="session_ended")
    assert told == ["ended_by_admin by a-administrator"] * 2
    assert (
        "key_hash" not in desk.get(f"/admin/accounts/session/{first.pk}/change/").content.decode()
    )


def test_who_may_only_look_ends_no_session(client: Client) -> None:
    looker = User.objects.create_user("looker", is_staff=True)
    looker.user_permissions.add(
        Permission.objects.get(codename="view_session", content_type__app_label="accounts")
    )
    client.force_login(looker)
    session = _begin(looker)
    form = {"action": "end", "_selected_action": [session.pk]}
    client.post("/admin/accounts/session/", form)
    session.refresh_from_db()
    assert session.ended_at is None


# History


def test_changes_by_another_person_are_written_down_with_who_and_from_where(desk: Client) -> None:
    omar = User.objects.create_user("omar")
    viewer, operator = (Group.objects.get(name=name) for name in ("viewer", "operator"))
    omar.groups.add(viewer)
    _save(desk, omar, groups=[operator.pk], is_staff="on")
    columns = ("event", "detail", "created_by", "address", "door")
    by_desk = ("a-administrator", "127.0.0.1", "browser")
    told = _history(*columns, user=omar)
    assert [row[:2] for row in told[:2]] == [
        ("account_created", ""),
        ("roles_changed", "added viewer"),
    ]
    assert sorted(told[2:]) == [
        ("account_changed", "is_staff: False → True", *by_desk),
        ("roles_changed", "added operator", *by_desk),
        ("roles_changed", "removed viewer", *by_desk),
    ]


def test_a_changed_password_is_written_down_and_not_what_it_is(desk: Client) -> None:
    omar = User.objects.create_user("omar", password="first horse 7 battery")
    form = {"password1": "second horse 8 battery", "password2": "second horse 8 battery",
            "usable_password": "true"}  # fmt: skip
    assert desk.post(f"{PEOPLE}{omar.pk}/password/", form).status_code == 302
    assert _history("created_by", user=omar, event="password_changed") == ["a-administrator"]
    told = str(list(AccountEvent.objects.values()))
    assert "horse" not in told
    assert "argon2" not in told


def test_permissions_of_people_and_roles_are_written_down() -> None:
    ship_roles()
    omar = User.objects.create_user("omar")
    copying = Permission.objects.get(codename="copy_dev")
    omar.user_permissions.add(copying)
    omar.user_permissions.clear()
    role = Group.objects.create(name="copyists")
    role.permissions.add(copying)
    role.user_set.add(omar)
    role.delete()
    told = _history("event", "username", "detail")[1:]
    wanted = [
        ("permissions_changed", "omar", "added copy_dev"),
        ("permissions_changed", "omar", "removed copy_dev"),
        ("permissions_changed", "", "role copyists: added copy_dev"),
        ("roles_changed", "omar", "added copyists"),
        ("permissions_changed", "", "role copyists deleted"),
    ]
    assert [row for row in told if "shipped" not in row][-5:] == wanted


def test_a_deleted_account_stays_in_the_history() -> None:
    User.objects.create_user("omar").delete()
    assert _history("event", "username") == [
        ("account_created", "omar"),
        ("account_deleted", "omar"),
    ]


@pytest.fixture
def rows() -> None:
    for name, event, address in (
        ("nora", "signed_in", "192.0.2.1"),
        ("omar", "sign_in_failed", "192.0.2.2"),
        ("omar", "signed_in", "2001:db8::1"),
    ):
        AccountEvent.objects.create(
            username=name, event=event, outcome="done", door="api", address=address,
            device="=HYPERLINK(1)",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("q=omar", 2), ("q=192.0.2.1", 1), ("q=2001:db8:0::1", 1), ("q=nobody", 0),
        ("event=sign_in_failed", 1), ("door=api&outcome=done", 3), ("outcome=refused", 0),
    ],
)  # fmt: skip
def test_history_is_searched_by_name_address_and_kind(
    desk: Client, rows: None, query: str, count: int
) -> None:
    # What was there before is the administrator's own.
    answer = desk.get(f"{HISTORY}?{query}")
    assert answer.status_code == 200
    found = [it for it in answer.context["cl"].queryset if it.device == "=HYPERLINK(1)"]
    assert len(found) == count


def test_history_is_exported_without_formulas(desk: Client, rows: None) -> None:
    keys = _history("pk", device="=HYPERLINK(1)")
    form = {"action": "export", "_selected_action": keys}
    answer = desk.post(HISTORY, form)
    assert answer.headers["Content-Type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[attr-defined]
    assert [line["username"] for line in lines] == ["nora", "omar", "omar"]
    assert {line["device"] for line in lines} == {"'=HYPERLINK(1)"}


def test_history_is_not_changed_there(desk: Client, rows: None) -> None:
    key = _history("pk")[-1]
    assert desk.post(f"{HISTORY}{key}/change/", {"username": "x"}).status_code == 403
    assert desk.post(f"{HISTORY}{key}/delete/", {"post": "yes"}).status_code == 403
