"""What each role may: every address of the console, and every deed in every environment."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from itertools import islice
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.utils import quote, unquote
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts import tokens
from accounts.models import AccountEvent, Invitation, Session, User
from dbops import journal
from dbops.models import Backup, JournalEntry, Operation, Schedule
from skinspire.permissions import Needs, covers, may, may_somewhere, needs
from tests.roles import ROLES, endpoints, person, ship_roles

pytestmark = pytest.mark.django_db(databases=["default", "control"])
PEOPLE = ("anonymous", "nothing", *ROLES, "superuser")
EVERYBODY, SIGNED_IN = frozenset(PEOPLE), frozenset(PEOPLE[1:])
VIEWERS, OPERATORS = frozenset(PEOPLE[2:]), frozenset(PEOPLE[3:])
ADMINISTRATORS, SUPERUSERS = frozenset(PEOPLE[4:]), frozenset(PEOPLE[5:])
NOBODY: frozenset[str] = frozenset()


def _model(name: str, see: Any, add: Any = NOBODY, change: Any = None, delete: Any = NOBODY) -> Any:
    """The views that Django's admin has for a model."""
    rules = {"changelist": see, "add": add, "change": see if change is None else change,
             "delete": delete, "history": see}  # fmt: skip
    return {f"admin:{name}_{view}": who for view, who in rules.items()}


# Who is let in by each view; one without a line here is a hole until somebody has thought of it.
RULES: dict[str, frozenset[str]] = {
    "dashboard": SIGNED_IN,
    "environments": VIEWERS,
    **dict.fromkeys(("accounts:reset", "accounts:new_password"), EVERYBODY),
    **dict.fromkeys(("accounts:register", "accounts:register_invited"), EVERYBODY),
    **{
        f"accounts:{name}": SIGNED_IN
        for name in (
            "confirm", "password", "sessions", "end_others", "end_session", "second_factor",
            "second_factor_begin", "second_factor_set_up", "second_factor_codes",
            "second_factor_remove",
        )
    },
    **{
        f"admin:{name}": VIEWERS  # a role is enough, though what they see differs
        for name in ("index", "password_change_done", "jsi18n", "view_on_site", "app_list")
    },
    "admin:password_change": EVERYBODY,  # leads to the other one
    "admin:autocomplete": NOBODY,
    **_model("accounts_accountevent", ADMINISTRATORS),
    **_model("accounts_session", ADMINISTRATORS),
    **_model("accounts_invitation", ADMINISTRATORS, add=ADMINISTRATORS, delete=ADMINISTRATORS),
    **_model("accounts_user", ADMINISTRATORS, add=ADMINISTRATORS, delete=SUPERUSERS),
    "admin:auth_user_password_change": ADMINISTRATORS,
    **_model("auth_group", ADMINISTRATORS, add=SUPERUSERS, delete=SUPERUSERS),
    **_model("dbops_operation", VIEWERS),
    **_model("dbops_backup", VIEWERS),
    **_model("dbops_schedule", VIEWERS),
    **_model("dbops_journalentry", VIEWERS),
    **_model("django_tasks_database_dbtaskresult", SUPERUSERS),
    **{
        f"admin:dbops_operation_{name}": OPERATORS
        for name in ("backup", "restore", "copy", "verify", "triggers", "undo", "cancel")
    },
    "admin:dbops_operation_inspect": VIEWERS,
    "admin:dbops_operation_progress": VIEWERS,
    "admin:dbops_backup_pin": OPERATORS,
    "admin:dbops_backup_download": ADMINISTRATORS,
    **{f"auth:{name}": EVERYBODY for name in ("token", "token_refresh", "token_verify", "logout")},
    **{f"auth:{name}": NOBODY for name in ("me", "sessions", "session")},  # no cookie opens them
    "schema": EVERYBODY,
    "docs": EVERYBODY,
}  # fmt: skip
DOORS = {"accounts:login", "accounts:code", "accounts:logout", "admin:login", "admin:logout"}
"""They lead to the login page or away from it by their nature."""
UNNAMED = ("admin/", "^api")
"""Redirects of Django's admin, and what answers where the API has nothing."""
METHODS = ("GET", "POST", "DELETE")
LATER = datetime(2100, 1, 1, tzinfo=UTC)
LOGINS = ("/accounts/login/", "/admin/login/")


@pytest.fixture(autouse=True)
def roles() -> None:
    ship_roles()


@pytest.fixture
def records() -> dict[str, dict[str, Any]]:
    """Something to ask for, by the name of the view."""
    operation = Operation.objects.create(
        kind="restore", target="dev", status="succeeded", actor="x"
    )
    backup = make_backup("dev")
    plain = User.objects.create_user("plain")
    now = timezone.now()
    journal.record("x", actor="x")
    rows = (
        plain, Group.objects.create(name="empty"), operation, backup,
        AccountEvent.objects.latest("pk"), Session.objects.create(user=plain, expires_at=LATER),
        Invitation.objects.create(email="a@example.org", invited_by="x", expires_at=LATER),
        Schedule.objects.create(kind="backup", source="dev", cron="0 3 * * *", next_due_at=LATER),
        JournalEntry.objects.latest("pk"),
        DBTaskResult.objects.create(args_kwargs={"args": [], "kwargs": {}}, run_after=now,
                                    task_path="dbops.tasks.run_operation", backend_name="default"),
    )  # fmt: skip
    models = {it._meta.label_lower.replace(".", "_"): quote(it.pk) for it in rows}
    views = ("change", "delete", "history")
    every = {
        "": {
            "operation_id": operation.pk, "name": backup.pk, "environment": "dev", "id": plain.pk,
            "object_id": 0, "sid": uuid.uuid4(), "uidb64": "x", "token": "y", "app_label": "dbops",
            "content_type_id": 1,
        },
        "auth:session": {"id": uuid.uuid4()},
    }  # fmt: skip
    return every | {
        f"admin:{name}_{view}": {"object_id": key} for name, key in models.items() for view in views
    }


def make_backup(environment: str) -> Backup:
    return Backup.objects.create(
        name=f"{environment}-backup", environment=environment, created_at=timezone.now(), size=1,
        sha256="", rows=1, tables=1, server_version="18", actor="x", operation="x",
    )  # fmt: skip


def _signed_in(role: str) -> Client:
    client = Client()
    if role != "anonymous":
        client.force_login(User.objects.filter(username=f"a-{role}").first() or person(role))
    return client


def _ask(client: Client, path: str, **headers: str) -> Iterator[Any]:
    """The answer to each way of asking that the view knows."""
    for method in METHODS:
        answer = client.generic(method, path, b"--x--", "multipart/form-data; boundary=x",
                                headers=headers)  # fmt: skip
        if answer.status_code != 405:
            yield answer


def _is_let_in(answer: Any) -> bool:
    assert answer.status_code < 500
    return answer.status_code not in (401, 403) and not answer.get("Location", "").startswith(
        LOGINS
    )


def test_every_view_lets_in_exactly_the_roles_it_should(records: Any) -> None:
    """Fault 67: the whole matrix, from the URLconf. A new view without a rule fails."""
    found = list(endpoints(records))
    named = [it for it in found if it.path and it.name not in DOORS]
    assert [it.name for it in found if not it.path and not it.name.startswith(UNNAMED)] == []
    assert {it.name for it in named} - RULES.keys() == set(), "views without a rule"
    assert RULES.keys() - {it.name for it in named} == set(), "rules without a view"
    wrong = []
    for role in PEOPLE:
        client = _signed_in(role)
        for it in named:
            allowed = role in RULES[it.name]
            # Who may not see it may not send to it either.
            answers = islice(_ask(client, it.path), 1 if allowed else 2)
            if any(_is_let_in(answer) != allowed for answer in answers):
                wrong.append(f"{role}: {it.name}")
    assert wrong == []


def test_what_has_no_name_and_the_doors_open_nothing(records: Any) -> None:
    paths = {it.path for it in endpoints(records) if it.name in DOORS}
    for role in ("anonymous", "nothing"):
        for path in (*paths, "/admin/nothing/", "/admin/dbops/nothing/1/", "/admin/auth/", "/api",
                     "/api/nothing", "/api/auth/nothing/"):  # fmt: skip
            for answer in _ask(_signed_in(role), path):
                shown = answer.status_code == 200 and path not in paths
                assert answer.status_code < 500
                assert not shown, (role, path)


# The API, by tokens

BY_TOKEN = dict.fromkeys(("auth:me", "auth:sessions", "auth:session"), SIGNED_IN) | dict.fromkeys(
    ("auth:token", "auth:token_refresh", "auth:token_verify", "auth:logout", "schema", "docs"),
    EVERYBODY,
)
"""Who is let in by each view of the API."""


def _token(role: str) -> dict[str, str]:
    if role == "anonymous":
        return {}
    user = User.objects.filter(username=f"a-{role}").first() or person(role)
    return {"Authorization": f"Bearer {tokens.sign_in(user, RequestFactory().get('/')).access}"}


def test_every_view_asks_alike_of_tokens(records: Any) -> None:
    """Fault 67: the matrix of the API, by a token of each role; and by one that has ended."""
    found = [it for it in endpoints(records) if it.path.startswith("/api/")]
    assert {it.name for it in found} == BY_TOKEN.keys(), "views without a rule, or the reverse"
    wrong = []
    for role in PEOPLE:
        for it in found:
            # The open ones may find fault with what is sent.
            let_in = BY_TOKEN[it.name] == EVERYBODY or all(
                map(_is_let_in, _ask(Client(), it.path, **_token(role)))
            )
            if let_in != (role in BY_TOKEN[it.name]):
                wrong.append(f"{role}: {it.name}")
        over = _token(role)
        Session.objects.filter(ended_at=None).update(ended_at=timezone.now(), end_reason="x")
        shut = [it for it in found if BY_TOKEN[it.name] == SIGNED_IN]
        wrong += [
            f"{role}: {it.name} by a token that is over"
            for it in shut
            if any(map(_is_let_in, _ask(Client(), it.path, **over)))
        ]
    assert wrong == []


def test_a_token_opens_no_page(records: Any) -> None:
    token, wrong = _token("superuser"), []
    for it in endpoints(records):
        is_page = it.path and it.name not in DOORS and not it.path.startswith("/api/")
        if is_page and "anonymous" not in RULES[it.name]:
            wrong += [it.name for answer in _ask(Client(), it.path, **token) if _is_let_in(answer)]
    assert wrong == []


# What is kept for the record

KEPT = ("accounts_accountevent", "accounts_session", "dbops_operation", "dbops_backup",
        "dbops_schedule", "dbops_journalentry", "django_tasks_database_dbtaskresult")  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_nobody_edits_or_deletes_what_is_kept(name: str, records: Any) -> None:
    """Neither record by record nor by an action on several, whoever it is."""
    rows = apps.get_model(".".join(name.rsplit("_", 1))).objects.order_by("pk")
    kept = list(rows.values())
    key = records[f"admin:{name}_change"]["object_id"]
    client = _signed_in("superuser")
    for view in ("change", "delete"):
        path = reverse(f"admin:{name}_{view}", args=[key])
        assert client.post(path, {"post": "yes"}).status_code == 403
    assert client.post(reverse(f"admin:{name}_add"), {}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": unquote(str(key)), "post": "yes"}
    client.post(reverse(f"admin:{name}_changelist"), chosen)
    left = {tuple(row.items()) for row in map(_hashable, rows.values())}
    assert {tuple(row.items()) for row in map(_hashable, kept)} <= left


def _hashable(row: dict[str, Any]) -> dict[str, str]:
    return {name: repr(value) for name, value in row.items()}


DEEDS = {"backup": "back_up", "restore": "restore", "copy": "copy", "triggers": "apply_triggers",
         "verify": "verify_backup"}  # fmt: skip
IN_PROD = {"backup", "verify"}
"""What an operator may there: nothing that changes it."""


def _form(deed: str, environment: str) -> dict[str, str]:
    other = "test" if environment == "dev" else "dev"
    if deed == "copy":
        return {"source": other, "target": environment}
    backup = f"{environment}-backup"
    return {"environment": environment, "target": environment, "source": environment,
            "backup": backup, "name": backup}  # fmt: skip


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preview would look into real databases; who may see it is what is asked here."""
    monkeypatch.setattr(
        "dbops.admin.actions.ActionView._show", lambda *_: HttpResponse("what will happen")
    )


@pytest.mark.parametrize("role", ["nothing", *ROLES])
def test_every_deed_is_open_to_the_roles_that_may_it_in_that_environment(
    role: str, quiet: None
) -> None:
    """Fault 67: role × deed × environment."""
    user, client = person(role), _signed_in(role)
    wrong = []
    for environment in ("dev", "test", "prod"):
        make_backup(environment)
        for deed in DEEDS:
            path = reverse(f"admin:dbops_operation_{deed}")
            answer = client.post(path, _form(deed, environment))
            wanted = role == "administrator" or (
                role == "operator" and (environment != "prod" or deed in IN_PROD)
            )
            let_in = answer.status_code == 200 and b"what will happen" in answer.content
            if let_in != wanted or may(user, f"dbops.{DEEDS[deed]}", environment) != wanted:
                wrong.append((deed, environment, answer.status_code))
    assert wrong == []


def test_rows_that_arrive_unmasked_need_the_permission_where_they_come_from(quiet: None) -> None:
    person("operator")
    make_backup("prod")
    path = reverse("admin:dbops_operation_restore")
    unmasked = {"backup": "prod-backup", "target": "dev", "unmasked": "on"}
    assert _signed_in("operator").post(path, unmasked).status_code == 403
    assert _signed_in("administrator").post(path, unmasked).status_code == 200


@pytest.mark.parametrize(("environment", "status"), [("dev", 302), ("prod", 403)])
def test_operations_are_stopped_and_backups_pinned_where_one_may(
    environment: str, status: int
) -> None:
    operation = Operation.objects.create(
        kind="backup", source=environment, status="failed", actor="x"
    )
    make_backup(environment)
    client = _signed_in("operator")
    for path in (
        reverse("admin:dbops_operation_cancel", args=[operation.pk]),
        reverse("admin:dbops_backup_pin", args=[f"{environment}-backup"]),
    ):
        assert client.post(path).status_code == status


def test_a_backup_is_verified_by_whoever_may_in_the_environment_it_is_of(quiet: None) -> None:
    for environment in ("dev", "prod"):
        make_backup(environment)
    user, path = person("nothing"), reverse("admin:dbops_operation_verify")
    user.user_permissions.add(Permission.objects.get(codename="verify_backup_dev"))
    client = _signed_in("nothing")
    codes = [client.post(path, {"backup": f"{it}-backup"}).status_code for it in ("dev", "prod")]
    assert codes == [200, 403]


def test_a_stranger_does_not_learn_which_operations_exist() -> None:
    for key in (Operation.objects.create(kind="restore", target="dev", actor="x").pk, "nothing"):
        answer = Client().get(reverse("admin:dbops_operation_undo", args=[key]))
        assert answer.headers["Location"].startswith(LOGINS)


def test_the_page_offers_what_a_role_may() -> None:
    page = reverse("admin:dbops_operation_changelist")
    assert "/copy/" in _signed_in("operator").get(page).content.decode()
    assert "/copy/" not in _signed_in("viewer").get(page).content.decode()


def test_a_permission_for_all_environments_is_one_for_each() -> None:
    operator, administrator = person("operator"), person("administrator")
    assert may(operator, "dbops.copy", "dev")
    assert not may(operator, "dbops.copy", "prod")
    assert may_somewhere(operator, "dbops.copy")
    assert may(administrator, "dbops.copy", "prod")
    assert covers(administrator, operator.get_all_permissions())
    assert not covers(operator, administrator.get_all_permissions())
    User.objects.update(is_active=False)
    assert not may(User.objects.get(pk=administrator.pk), "dbops.copy", "dev")


@pytest.mark.parametrize(("environment", "let_in"), [("dev", True), ("prod", False)])
def test_views_and_the_api_ask_alike(environment: str, let_in: bool) -> None:
    request = RequestFactory().get("/")
    request.user = person("operator")
    view = needs("dbops.restore")(lambda *_, **__: HttpResponse())
    if let_in:
        assert view(request, environment=environment).status_code == 200
    else:
        with pytest.raises(PermissionDenied):
            view(request, environment=environment)

    class ApiView:
        kwargs = {"environment": environment}

    assert Needs("dbops.restore")().has_permission(request, ApiView()) is let_in  # type: ignore[arg-type]
    request.user = AnonymousUser()
    assert view(request, environment=environment).status_code == 302
    assert not Needs("dbops.restore")().has_permission(request, ApiView())  # type: ignore[arg-type]


def test_shipping_roles_again_leaves_what_somebody_changed() -> None:
    viewer = Group.objects.get(name="viewer")
    viewer.permissions.clear()
    ship_roles()
    assert viewer.permissions.count() == 0
    known = {f"{it.content_type.app_label}.{it.codename}" for it in Permission.objects.all()}
    from_migration = import_module("skinspire.migrations.0001_roles").ROLES
    wanted = {f"{app}.{it}" for role in from_migration.values() for app in role for it in role[app]}
    assert wanted <= known
