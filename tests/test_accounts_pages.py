"""Pages of accounts: sessions of browsers, registering, passwords, a recent proof."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from axes.models import AccessFailureLog
from django.contrib.auth.models import Group, Permission
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from accounts import browser, invitations
from accounts.admission import one_of_few
from accounts.limits import name_key
from accounts.models import AccountEvent, Invitation, Session, User
from skinspire.acting import Actor, acting_as

pytestmark = pytest.mark.django_db(databases=["default", "control", "test", "prod"])
COMMITTED = pytest.mark.django_db(
    transaction=True, databases=["default", "control", "test", "prod"]
)
"""For what another thread has to see: who gets a mail is found out beside the request."""
PASSWORD = "correct horse 7 battery"
OTHER = "quite another 8 staple"
LOGIN = "/accounts/login/"
SESSIONS = "/accounts/sessions/"


@pytest.fixture
def nora() -> User:
    return User.objects.create_user("nora", "nora@example.org", PASSWORD)


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", "root@example.org", PASSWORD)


def signed_in(name: str = "nora", **extra: Any) -> Client:
    client = Client()
    answer = client.post(LOGIN, {"username": name, "password": PASSWORD, **extra})
    assert answer.status_code == 302, answer.content.decode()
    return client


def is_in(client: Client) -> bool:
    return bool(client.get(SESSIONS).status_code == 200)


def told(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def row_of(client: Client) -> Session:
    return Session.objects.get(pk=client.session["sid"])


def later(minutes: int, client: Client) -> None:
    """As if the session had begun, and been seen last, so long ago."""
    by = timedelta(minutes=minutes)
    row = row_of(client)
    Session.objects.filter(pk=row.pk).update(last_seen_at=row.last_seen_at - by)


def prove_long_ago(client: Client) -> None:
    session = client.session
    session["proven_at"] = int(time.time()) - 16 * 60
    session.save()


# Signing in


def test_a_session_key_from_before_the_sign_in_opens_nothing(nora: User) -> None:
    """Fault 64: the key an attacker may have planted is worth nothing after the sign-in."""
    client = Client()
    client.get(LOGIN)
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    assert planted
    client.cookies["skinspire_dev_session"] = planted
    client.post(LOGIN, {"username": "nora", "password": PASSWORD})
    assert client.session.session_key != planted
    thief = Client()
    thief.cookies["skinspire_dev_session"] = planted
    assert not is_in(thief)
    assert is_in(client)


def test_the_form_keeps_the_name_and_not_the_password(nora: User) -> None:
    page = told(Client().post(LOGIN, {"username": "nora", "password": "wrong", "remember": "on"}))
    assert 'value="nora"' in page
    assert "checked" in page
    assert "wrong" not in page.replace("wrong name", "")


def test_a_locked_account_gets_429_whatever_the_password(nora: User) -> None:
    client = Client()
    for _ in range(5):
        client.post(LOGIN, {"username": "nora", "password": "wrong horse"})
    for password in ("wrong horse", PASSWORD):
        answer = client.post(LOGIN, {"username": "nora", "password": password})
        assert answer.status_code == 429
        assert 0 < int(answer.headers["Retry-After"]) <= 15 * 60
        assert "_auth_user_id" not in client.session


def test_a_crowd_at_the_door_is_told_to_come_again(nora: User) -> None:
    with ExitStack() as crowd:
        for _ in range(2):
            crowd.enter_context(one_of_few())
        answer = Client().post(LOGIN, {"username": "nora", "password": PASSWORD})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert not AccountEvent.objects.exclude(event="account_created").exists()
    assert is_in(signed_in())


def test_remember_me_outlives_the_browser_and_is_over_after_its_days(nora: User) -> None:
    short, long = signed_in(), signed_in(remember="on")
    assert short.cookies["skinspire_dev_session"]["max-age"] == ""
    assert long.cookies["skinspire_dev_session"]["max-age"] == 14 * 86400
    hours = [
        (row_of(it).expires_at - timezone.now()).total_seconds() / 3600 for it in (short, long)
    ]
    assert hours == [pytest.approx(12, abs=0.1), pytest.approx(14 * 24, abs=0.1)]
    for client in (short, long):
        later(31, client)
    assert (is_in(short), is_in(long)) == (False, True)


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(nora: User) -> None:
    client = Client()
    client.get(LOGIN)
    client.post(LOGIN, {"username": "nora", "password": PASSWORD})
    for name in ("skinspire_dev_session", "skinspire_dev_csrf"):
        assert client.cookies[name]["httponly"]
        assert client.cookies[name]["samesite"] == "Lax"


# Sessions are rows


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ({"ended_at": timezone.now(), "end_reason": "ended_by_admin"}, "by an administrator"),
        ({"last_seen_at": timezone.now() - timedelta(minutes=31)}, "nothing was done"),
        ({"expires_at": timezone.now()}, "longest time"),
        ({}, "disabled"),
    ],
    ids=["admin", "idle", "expired", "disabled"],
)
def test_a_session_that_is_over_leads_to_the_login_page_and_back(
    nora: User, end: dict[str, Any], why: str
) -> None:
    client = signed_in()
    assert client.get("/environments/").status_code == 403
    if end:
        Session.objects.update(**end)
    else:
        User.objects.update(is_active=False)
    answer = client.get("/environments/?a=1")
    assert answer.headers["Location"] == f"{LOGIN}?next=/environments/%3Fa%3D1"
    assert why in told(client.get(answer.headers["Location"]))
    assert "_auth_user_id" not in client.session
    assert Session.objects.get().ended_at is not None


def test_a_form_sent_too_late_does_nothing_and_leads_back_to_its_page(nora: User) -> None:
    client = signed_in()
    later(31, client)
    answer = client.post(
        "/accounts/sessions/end-others/", HTTP_REFERER="http://testserver/accounts/sessions/?b=2"
    )
    assert answer.headers["Location"] == f"{LOGIN}?next=%2Faccounts%2Fsessions%2F%3Fb%3D2"
    later_still = signed_in()
    later(31, later_still)
    answer = later_still.post(
        "/accounts/sessions/end-others/", HTTP_REFERER="https://evil.example/accounts/"
    )
    assert answer.headers["Location"] == LOGIN


def test_what_a_page_asks_by_itself_keeps_no_session_alive(nora: User) -> None:
    client = signed_in()
    later(20, client)
    before = row_of(client).last_seen_at
    client.get("/", HTTP_SEC_FETCH_DEST="empty")
    assert row_of(client).last_seen_at == before
    client.get("/", HTTP_SEC_FETCH_DEST="document")
    assert row_of(client).last_seen_at > before


def test_signing_out_ends_the_row_and_a_copy_of_the_cookie_with_it(nora: User) -> None:
    client, copy = signed_in(), Client()
    copy.cookies["skinspire_dev_session"] = client.cookies["skinspire_dev_session"].value
    row = row_of(client)
    client.post("/accounts/logout/")
    row.refresh_from_db()
    assert row.end_reason == "signed_out"
    assert not is_in(copy)


def test_a_session_without_a_row_is_none(nora: User) -> None:
    client = signed_in()
    session = client.session
    del session["sid"]
    session.save()
    assert not is_in(client)


def test_own_sessions_are_listed_and_ended_one_by_one_or_all_but_this(nora: User) -> None:
    here, there, far = (signed_in() for _ in range(3))
    page = told(here.get(SESSIONS))
    assert page.count('class="sheet session"') == 3
    assert page.count("this one") == 1
    assert "127.0.0.1" in page
    here.post(f"{SESSIONS}{row_of(there).pk}/end/")
    assert [is_in(it) for it in (here, there, far)] == [True, False, True]
    there = signed_in()
    here.post(f"{SESSIONS}end-others/")
    assert [is_in(it) for it in (here, there, far)] == [True, False, False]
    assert AccountEvent.objects.filter(event="session_ended").count() == 3


def test_sessions_of_others_are_not_known(nora: User) -> None:
    User.objects.create_user("omar", password=PASSWORD)
    omar, mine = signed_in("omar"), signed_in()
    assert mine.post(f"{SESSIONS}{row_of(omar).pk}/end/").status_code == 404
    assert is_in(omar)


# Passwords


def test_a_changed_password_ends_all_other_sessions(nora: User) -> None:
    here, there = signed_in(), signed_in()
    answer = here.post(
        "/accounts/password/",
        {"old_password": PASSWORD, "new_password1": OTHER, "new_password2": OTHER},
    )
    assert answer.headers["Location"] == SESSIONS
    assert (is_in(here), is_in(there)) == (True, False)
    assert "password of this account was changed" in told(there.get(LOGIN))


@pytest.mark.parametrize(
    ("password", "complaint"),
    [
        ("short 7 horse", None), ("eleven char", "too short"), ("123456789012", "guessed first"),
        ("Password1234!", "guessed first"), ("skinspire2026", "guessed first"),
        ("horse1horse1horse1", "guessed first"), ("telechargement", "too common"),
        ("nora@example.org", "too similar"), ("907 135 284 611", None), ("ünïcode wörds", None),
    ],
)  # fmt: skip
def test_passwords_are_long_and_not_common_and_of_any_characters(
    nora: User, password: str, complaint: str | None
) -> None:
    answer = signed_in().post(
        "/accounts/password/",
        {"old_password": PASSWORD, "new_password1": password, "new_password2": password},
    )
    if complaint:
        assert complaint in told(answer)
    else:
        assert answer.status_code == 302


def test_a_stolen_session_guesses_the_password_no_more_often_than_anybody(nora: User) -> None:
    """Fault 56: the page that changes the password counts with the doors."""
    client = signed_in()
    form = {"old_password": "wrong horse", "new_password1": OTHER, "new_password2": OTHER}
    codes = [client.post("/accounts/password/", form).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]
    answer = client.post("/accounts/password/", form | {"old_password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert nora.events.filter(event="sign_in_failed").count() == 5
    nora.refresh_from_db()
    assert nora.check_password(PASSWORD)


def _let_mails_go() -> None:
    while writers := [it for it in threading.enumerate() if it.name == "mail"]:
        writers[0].join(5)


def _mailed() -> str:
    """The link in the last one."""
    _let_mails_go()
    link = re.search(r"http://testserver(/accounts/\S+)", str(mail.outbox[-1].body))
    assert link
    return link[1]


def _reset(link: str, password: str = OTHER) -> Any:
    client = Client()
    form = client.get(link, follow=True)
    path = form.redirect_chain[-1][0] if form.redirect_chain else link
    return client.post(path, {"new_password1": password, "new_password2": password}, follow=True)


@COMMITTED
def test_a_password_is_reset_by_a_link_that_opens_once(nora: User) -> None:
    inside = signed_in()
    for _ in range(6):  # she has forgotten it, and is kept waiting
        answer = Client().post(LOGIN, {"username": "nora", "password": "forgotten"})
    assert answer.status_code == 429
    Client().post("/accounts/password/reset/", {"email": "NORA@example.org"})
    link = _mailed()
    assert "Sign in with it." in told(_reset(link))
    nora.refresh_from_db()
    assert nora.check_password(OTHER)
    assert not is_in(inside)
    assert not AccessFailureLog.objects.filter(username=name_key("nora")).exists()
    assert "This link is over" in told(_reset(link, "a third 9 password"))
    nora.refresh_from_db()
    assert nora.check_password(OTHER)
    assert PASSWORD not in str(list(AccountEvent.objects.values()))


@COMMITTED
def test_a_link_opens_once_for_two_at_once_as_well(nora: User) -> None:
    Client().post("/accounts/password/reset/", {"email": nora.email})
    link, changed = _mailed(), []
    clients = [Client() for _ in range(4)]
    forms = [client.get(link, follow=True).redirect_chain[-1][0] for client in clients]

    def choose(client: Client, path: str) -> None:
        try:
            answer = client.post(path, {"new_password1": OTHER, "new_password2": OTHER})
            changed.append(answer.status_code == 302)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=choose, args=it) for it in zip(clients, forms, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(changed) == [False, False, False, True]
    assert nora.events.filter(event="password_changed").count() == 1


@COMMITTED
def test_a_reset_says_the_same_whether_there_is_an_account(nora: User) -> None:
    answers = [
        Client().post("/accounts/password/reset/", {"email": email}, follow=True)
        for email in ("nora@example.org", "nobody@example.org")
    ]
    alerts = [re.sub(r'value="[^"]{32,}"', "", told(answer)) for answer in answers]
    assert alerts[0] == alerts[1]
    _mailed()
    assert len(mail.outbox) == 1


@COMMITTED
def test_a_reset_takes_as_long_whether_there_is_an_account(nora: User) -> None:
    """Nothing of the account is asked or written before the page is answered."""
    asked = []
    for email in ("nora@example.org", "nobody@example.org"):
        with CaptureQueriesContext(connection) as queries:
            Client().post("/accounts/password/reset/", {"email": email})
        asked.append(len(queries))
    _mailed()
    assert asked[0] == asked[1]
    assert nora.events.filter(event="reset_requested").count() == 1


@COMMITTED
def test_nobodys_mailbox_is_filled(nora: User) -> None:
    for _ in range(5):
        Client().post("/accounts/password/reset/", {"email": "nora@example.org"})
    _mailed()
    assert len(mail.outbox) == 3


# Registering

NEW = {"username": "omar", "first_name": "Omar", "password1": PASSWORD, "password2": PASSWORD}
POWERS = {
    "is_staff": "on", "is_superuser": "on", "is_active": "", "groups": "1", "user_permissions": "1",
    "id": "1", "pk": "1", "roles": "1", "last_login": "2020-01-01", "email": "evil@example.org",
}  # fmt: skip


@pytest.fixture
def operators() -> Group:
    return Group.objects.get_or_create(name="operator")[0]


def test_an_invitation_opens_once_and_gives_its_roles(operators: Group) -> None:
    link = invitations.path_of(invitations.invite("omar@example.org", [operators], by="root"))
    assert "omar@example.org" in told(Client().get(link))
    answer = Client().post(link, NEW, follow=True)
    assert "Your account is ready" in told(answer)
    omar = User.objects.get()
    assert (omar.email, list(omar.groups.all())) == ("omar@example.org", [operators])
    again = Client().post(link, NEW | {"username": "eve"})
    assert again.status_code == 410
    assert User.objects.count() == 1
    assert Invitation.objects.get().account == omar


def _ask(email: str) -> str:
    """What the page says of an address that wants to register."""
    return told(Client().post("/accounts/register/", {"email": email}, follow=True))


@COMMITTED
def test_where_anybody_may_register_the_address_is_proved_first(settings: Any) -> None:
    settings.ACCOUNT_REGISTRATION = "open"
    assert "A link is on its way" in _ask("omar@example.org")
    assert not User.objects.exists()
    link = _mailed()
    assert "Your account is ready" in told(Client().post(link, NEW, follow=True))
    omar = User.objects.get()
    assert (omar.email, omar.groups.count()) == ("omar@example.org", 0)


@COMMITTED
def test_registering_does_not_tell_who_has_an_account(settings: Any, nora: User) -> None:
    settings.ACCOUNT_REGISTRATION = "open"
    answers = [_ask(email) for email in ("NORA@example.org", "new@example.org")]
    assert len({re.sub(r'value="[^"]{32,}"', "", it) for it in answers}) == 1
    assert _mailed().startswith("/accounts/")
    letters = {it.to[0]: str(it.body) for it in mail.outbox}
    assert "has an account already: nora" in letters["nora@example.org"]
    assert Invitation.objects.get().email == "new@example.org"


@COMMITTED
def test_nobody_fills_mailboxes_by_registering(settings: Any, nora: User) -> None:
    settings.ACCOUNT_REGISTRATION = "open"
    for email in ["new@example.org", "NEW@example.org", "nora@example.org"] * 2:
        _ask(email)
    _ask("new@example.org")
    _mailed()
    assert sorted(it.to[0].lower() for it in mail.outbox) == [
        *["new@example.org"] * 3, *["nora@example.org"] * 2,
    ]  # fmt: skip
    for number in range(30):
        _ask(f"{number}@example.org")
    _let_mails_go()
    assert Invitation.objects.count() == 3 + 15


def test_whoever_registers_gets_no_power_he_names(nora: User) -> None:
    """Fault 66: is_staff, is_superuser, groups, id and the like are ignored."""
    link = invitations.path_of(invitations.invite("i@example.org", by="root"))
    assert Client().post(link, POWERS | NEW | {"username": "invited"}).status_code == 302
    user = User.objects.get(username="invited")
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert user.is_active
    assert user.last_login is None
    assert not user.groups.exists()
    assert not user.user_permissions.exists()
    assert user.pk != 1
    assert user.email == "i@example.org"
    nora.refresh_from_db()
    assert nora.username == "nora"


def test_invitations_end_and_cannot_be_made_up(settings: Any) -> None:
    invitation = invitations.invite("omar@example.org", by="root")
    link = invitations.path_of(invitation)
    Invitation.objects.update(expires_at=timezone.now())
    assert Client().get(link).status_code == 410
    assert Client().post(link, NEW).status_code == 410
    assert Client().get("/accounts/register/x:y:z/").status_code == 410
    settings.ACCOUNT_REGISTRATION = "off"
    assert Client().get(link).status_code == 404


@pytest.mark.parametrize(("way", "status"), [("open", 200), ("invitation", 404), ("off", 404)])
def test_who_may_register_is_a_setting(settings: Any, way: str, status: int) -> None:
    settings.ACCOUNT_REGISTRATION = way
    assert Client().get("/accounts/register/").status_code == status
    assert ("Register" in told(Client().get(LOGIN))) == (way == "open")


def test_a_name_or_address_that_is_taken_is_refused(nora: User) -> None:
    link = invitations.path_of(invitations.invite("Nora@example.org", by="root"))
    assert "cannot be used" in told(Client().post(link, NEW))
    assert "already exists" in told(Client().post(link, NEW | {"username": "NORA"}))
    assert User.objects.count() == 1
    assert Invitation.objects.get().used_at is None


def test_an_invitation_is_made_in_the_admin(root: User, operators: Group) -> None:
    client = signed_in("root")
    answer = client.post(
        "/admin/accounts/invitation/add/", {"email": "o@example.org", "roles": [operators.pk]},
        follow=True,
    )  # fmt: skip
    link = re.search(r"http://testserver(/accounts/register/[\w:.-]+/)", told(answer))
    assert link
    assert _mailed() == link[1]
    assert Client().get(link[1]).status_code == 200
    page = client.get(f"/admin/accounts/invitation/{Invitation.objects.get().pk}/change/")
    assert link[1] in told(page)


def test_a_link_is_shown_to_those_who_could_have_made_it(root: User, operators: Group) -> None:
    """Who may look at invitations does not become what others were invited as."""
    desk = User.objects.create_user("desk", password=PASSWORD, is_staff=True)
    desk.user_permissions.add(Permission.objects.get(codename="view_invitation"))
    operators.permissions.add(Permission.objects.get(codename="restore"))
    for roles, shown in (([operators], False), ([], True)):
        invitation = invitations.invite("o@example.org", roles, by="root")
        link = invitations.path_of(invitation)
        page = f"/admin/accounts/invitation/{invitation.pk}/change/"
        assert (link in told(signed_in("desk").get(page))) is shown
        assert link in told(signed_in("root").get(page))


def test_who_is_thrown_out_does_not_come_back_by_an_own_invitation(
    nora: User, operators: Group
) -> None:
    """Fault 62: nor with a role taken away since then."""
    operators.permissions.add(Permission.objects.get(codename="restore"))
    nora.user_permissions.set(operators.permissions.all())
    link = invitations.path_of(invitations.invite("o@example.org", [operators], by="nora"))
    assert Client().get(link).status_code == 200
    nora.user_permissions.clear()
    assert Client().get(link).status_code == 410
    plain = invitations.path_of(invitations.invite("p@example.org", by="nora"))
    assert Client().get(plain).status_code == 200
    User.objects.filter(pk=nora.pk).update(is_active=False)
    assert Client().get(plain).status_code == 410
    form = {"username": "omar", "password1": OTHER, "password2": OTHER}
    assert Client().post(plain, form).status_code == 410
    assert not User.objects.filter(username="omar").exists()


@COMMITTED
def test_links_of_another_environment_open_nothing(nora: User, settings: Any) -> None:
    """Environments may share a SECRET_KEY, and one may hold a copy of the other's accounts."""
    Client().post("/accounts/password/reset/", {"email": nora.email})
    reset, invited = _mailed(), invitations.path_of(invitations.invite("o@example.org", by=""))
    settings.ENVIRONMENT = replace(settings.ENVIRONMENT, name="prod")
    assert "This link is over" in told(Client().get(reset, follow=True))
    assert Client().get(invited).status_code == 410


def test_nobody_hands_on_more_than_he_may_himself(nora: User, operators: Group) -> None:
    permission = Permission.objects.get(codename="restore")
    operators.permissions.add(permission)
    assert operators not in invitations.roles_of_giver(nora)
    nora.user_permissions.add(permission, *operators.permissions.all())
    assert operators in invitations.roles_of_giver(User.objects.get())


def test_invite_prints_a_link(operators: Group) -> None:
    out = StringIO()
    call_command("invite", "o@example.org", "--role", "operator", "--json", stdout=out)
    result = json.loads(out.getvalue())["result"]
    path = re.sub(r"^http://localhost:8000", "", result["url"])
    assert Client().get(path).status_code == 200
    for wrong in (["no address"], ["o@example.org", "--role", "king"],
                  ["o@example.org", "--days", "0"]):  # fmt: skip
        with pytest.raises(CommandError):
            call_command("invite", *wrong)


def test_the_command_line_invites_whatever_an_account_of_that_name_may(
    nora: User, operators: Group
) -> None:
    operators.permissions.add(Permission.objects.get(codename="restore"))
    out = StringIO()
    with acting_as(Actor("nora")):
        call_command("invite", "o@example.org", "--role", "operator", "--json", stdout=out)
    link = json.loads(out.getvalue())["result"]["url"].removeprefix("http://localhost:8000")
    assert "nora at the command line" in Invitation.objects.get().invited_by
    assert "Your account is ready" in told(Client().post(link, NEW, follow=True))


# A recent proof


def test_what_replaces_a_database_asks_who_sits_there(root: User) -> None:
    client = signed_in("root")
    path = "/admin/dbops/operation/restore/?target=dev"
    assert client.get(path).status_code == 200
    prove_long_ago(client)
    assert client.get("/admin/dbops/operation/backup/").status_code == 200
    answer = client.get(path)
    confirm = answer.headers["Location"]
    assert confirm.startswith("/accounts/confirm/?next=%2Fadmin%2Fdbops")
    assert client.post(path, {"target": "dev"}).headers["Location"].startswith("/accounts/confirm/")
    assert client.post(confirm, {"password": "wrong"}).status_code == 200
    assert client.get(path).status_code == 302
    assert client.post(confirm, {"password": PASSWORD}).headers["Location"] == path
    assert client.get(path).status_code == 200


def test_every_view_that_needs_a_recent_proof_exists(settings: Any) -> None:
    names = {name for name, _ in _views()}
    assert names >= settings.ACCOUNT_FRESH_VIEWS | settings.ACCOUNT_FRESH_FORMS


def test_actions_on_people_need_a_recent_proof_and_their_list_does_not(root: User) -> None:
    client = signed_in("root")
    prove_long_ago(client)
    path = "/admin/accounts/user/"
    assert client.get(path).status_code == 200
    answer = client.post(path, {"action": "lock", "_selected_action": [root.pk]})
    assert answer.headers["Location"].startswith("/accounts/confirm/")
    answer = client.post("/admin/auth/group/", {"action": "delete_selected", "post": "yes"})
    assert answer.headers["Location"].startswith("/accounts/confirm/")


# Every page


def _views(
    patterns: Any = None, names: tuple[str, ...] = (), path: str = "/"
) -> list[tuple[str, str]]:
    """(name, path) of every view of the URLconf; arguments are filled in."""
    found = []
    for it in get_resolver().url_patterns if patterns is None else patterns:
        below = path + re.sub(r"<uuid:\w+>", "00000000-0000-4000-8000-000000000000",
                              str(it.pattern).replace("^", "").replace("$", ""))  # fmt: skip
        below = re.sub(r"\(\?P<\w+>[^()]*(\([^()]*\))?[^()]*\)|<[^>]+>", "1", below)
        if isinstance(it, URLResolver):
            inner = (*names, it.namespace) if it.namespace else names
            found += _views(it.url_patterns, inner, below)
        elif isinstance(it, URLPattern):
            found.append((":".join((*names, it.name or "")), below))
    return found


PAGES = [it for it in _views() if not it[1].startswith("/api/")]


def test_every_post_of_a_browser_needs_a_csrf_token(root: User) -> None:
    """Fault 65: CSRF. Every address of the URLconf, signed in as who may do everything."""
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(root)
    before = _rows()
    statuses = {
        path: strict.post(path, {"email": "x@example.org"}).status_code for _, path in PAGES
    }
    refused = {path: status for path, status in statuses.items() if status not in (403, 405, 404)}
    # Pages that lead elsewhere whatever comes: the login page, and what has no view of its own.
    assert {path: status for path, status in refused.items() if status not in (301, 302, 410)} == {}
    assert _rows() == before


def test_no_get_changes_anything(root: User) -> None:
    """Fault 65: GET. Every address of the URLconf; only that the session was seen is written."""
    client = signed_in("root")
    before = _rows()
    with CaptureQueriesContext(connection) as queries:
        for _, path in PAGES:
            client.get(path)
    writes = [
        query["sql"]
        for query in queries
        if re.match(r"\W*(INSERT|UPDATE|DELETE)", query["sql"])
        and not re.search(r'"(django_session|accounts_session)"', query["sql"])
    ]
    assert writes == []
    assert _rows() == before
    assert is_in(client)


def _rows() -> dict[str, int]:
    counts = {}
    for alias in ("default", "control"):
        for table in connections[alias].introspection.table_names():
            if table not in ("django_session", "accounts_session", "accounts_accountevent"):
                with connections[alias].cursor() as cursor:
                    cursor.execute(f'SELECT count(*) FROM "{table}"')
                    counts[f"{alias}.{table}"] = cursor.fetchone()[0]
    return counts


@pytest.mark.parametrize(
    "page", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)",
             "///evil.example", "http:evil.example", "\t//evil.example", "/accounts/..//evil"]
)  # fmt: skip
def test_next_stays_local_on_every_form_that_leads_on(nora: User, page: str) -> None:
    """Fault 65: ``next=//evil`` stays local."""
    places = [
        Client().post(LOGIN, {"username": "nora", "password": PASSWORD, "next": page}),
        signed_in().post("/accounts/confirm/", {"password": PASSWORD, "next": page}),
        signed_in().post(f"/accounts/confirm/?next={page}", {"password": PASSWORD}),
    ]
    for place in (it.headers["Location"] for it in places):
        assert place.startswith("/")
        assert not place.startswith(("//", "/\\"))
        assert "javascript" not in place


def test_is_fresh_does_not_trust_a_clock_that_went_back(nora: User) -> None:
    client = signed_in()
    session = client.session
    session["proven_at"] = int(time.time()) + 9999
    session.save()
    assert (
        client.get("/accounts/second-factor/set-up/")
        .headers["Location"]
        .startswith("/accounts/confirm/")
    )
    assert browser.PROVEN_AT == "proven_at"
