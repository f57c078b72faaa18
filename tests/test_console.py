"""The dashboard, the records and the actions: who may do what, and what comes of it."""

from __future__ import annotations

import re
import socket
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from django.conf import settings as configured
from django.db import connections
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from accounts.models import User
from dbops import conf
from dbops.models import Backup, JournalEntry, Operation
from dbops.operations.inspection import InspectRequest, inspect_environments
from dbops.postgres.connection import session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import write_stamp
from skinspire.environment import ENVIRONMENTS, ActiveEnvironment

SignIn = Callable[..., Client]
pytestmark = pytest.mark.django_db(databases=["default", "control", "test", "prod"])
LIST = "/admin/dbops/operation/"
BACKUP = "dev-20260101T000000Z-0123456789ab.dump.zst"
ACTIONS = {
    "backup": ("back_up", {"source": "dev"}),
    "restore": ("restore", {"backup": BACKUP, "target": "dev"}),
    "copy": ("copy", {"source": "test", "target": "dev"}),
    "triggers": ("apply_triggers", {"target": "dev"}),
    "verify": ("verify_backup", {"backup": BACKUP}),
}


@pytest.fixture(autouse=True)
def _stamped(django_db_setup: None) -> None:
    for name in ENVIRONMENTS:
        with session(conf.database_params(name)) as connection:
            write_stamp(connection, name)


@pytest.fixture
def backup() -> Backup:
    return Backup.objects.create(
        name=BACKUP, environment="dev", created_at=timezone.now(), size=1234, sha256="0" * 64,
        rows=7, tables=3, server_version="18.4", actor="nora", operation="0123456789ab",
    )  # fmt: skip


@pytest.fixture
def operator(sign_in: SignIn) -> Client:
    return sign_in(*(permission for permission, _ in ACTIONS.values()), "cancel")


def _text(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def _confirmed(client: Client, action: str, key: str = "", **more: str) -> Any:
    fields = ACTIONS[action][1] | {"confirm": "1", "request_key": key or str(uuid.uuid4())} | more
    return client.post(f"{LIST}{action}/", fields)


# Who may do what


@pytest.mark.parametrize("path", ["/", LIST, *(f"{LIST}{action}/" for action in ACTIONS)])
def test_strangers_go_to_the_login_page(client: Client, path: str) -> None:
    answer = client.get(path, follow=True)
    assert unquote(answer.redirect_chain[-1][0]) == f"/accounts/login/?next={path}"


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_needs_its_own_permission(sign_in: SignIn, backup: Backup, action: str) -> None:
    own = ACTIONS[action][0]
    client = sign_in(*(name for name, _ in ACTIONS.values() if name != own))
    path = f"{LIST}{action}/"
    assert client.get(path).status_code == 403
    assert client.post(path, ACTIONS[action][1]).status_code == 403
    assert _confirmed(client, action).status_code == 403
    assert not Operation.objects.exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_looking_and_asking_starts_nothing(operator: Client, backup: Backup, action: str) -> None:
    path, fields = f"{LIST}{action}/", ACTIONS[action][1]
    assert operator.get(path, fields | {"confirm": "1"}).status_code == 200
    assert operator.post(path, fields).status_code == 200
    assert not Operation.objects.exists()
    assert not DBTaskResult.objects.exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_every_post_needs_a_csrf_token(operator: Client, backup: Backup, action: str) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert _confirmed(strict, action).status_code == 403
    assert not Operation.objects.exists()


# What a confirmation starts


@pytest.mark.parametrize(
    ("action", "kind", "source", "target", "options"),
    [
        ("backup", "backup", "dev", "", {}),
        ("restore", "restore", "", "dev", {"name": BACKUP}),
        ("copy", "copy", "test", "dev", {"strategy": "auto"}),
        ("triggers", "triggers", "", "dev", {}),
        ("verify", "verify", "", "", {"name": BACKUP}),
    ],
)
def test_a_confirmed_action_is_queued(
    operator: Client, backup: Backup, action: str, kind: str, source: str, target: str, options: Any
) -> None:
    answer = _confirmed(operator, action)
    operation = Operation.objects.get()
    assert answer.headers["Location"] == f"{LIST}{operation.pk}/change/"
    assert (operation.kind, operation.source, operation.target) == (kind, source, target)
    assert (operation.status, operation.actor, operation.door) == ("queued", "nora", "admin")
    assert operation.options == options
    task = DBTaskResult.objects.get()
    assert task.args_kwargs["args"] == [operation.pk]
    assert JournalEntry.objects.get(event="requested").actor == "nora"


def test_the_same_form_twice_is_one_operation(operator: Client) -> None:
    page = _text(operator.post(f"{LIST}backup/", {"source": "dev"}))
    key = re.search(r'name="request_key" value="([^"]+)"', page)
    assert key
    first = _confirmed(operator, "backup", key[1])
    second = _confirmed(operator, "backup", key[1])
    assert first.headers["Location"] == second.headers["Location"]
    assert Operation.objects.count() == DBTaskResult.objects.count() == 1


@pytest.mark.parametrize("key", ["", "x", "../../x", "0" * 5000])
def test_a_confirmation_without_its_key_starts_nothing(operator: Client, key: str) -> None:
    answer = operator.post(f"{LIST}backup/", {"source": "dev", "confirm": "1", "request_key": key})
    assert answer.status_code == 200
    assert not Operation.objects.exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "%2e%2e", "a\x00b", "gone"])
def test_only_backups_of_the_catalogue_are_restored(operator: Client, name: str) -> None:
    answer = _confirmed(operator, "restore", backup=name)
    assert answer.status_code == 200
    assert 'class="errorlist"' in _text(answer)
    assert not Operation.objects.exists()


@pytest.mark.parametrize("environment", ["staging", "", "dev; DROP", "DEV\x00"])
def test_only_known_environments_are_taken(operator: Client, environment: str) -> None:
    assert _confirmed(operator, "triggers", target=environment).status_code == 200
    assert not Operation.objects.exists()


# What is shown before


def test_a_copy_shows_both_ends_and_what_is_replaced(operator: Client) -> None:
    page = _text(operator.post(f"{LIST}copy/", ACTIONS["copy"][1]))
    for name in ("test", "dev"):
        params = conf.database_params(name)
        assert f"{name}: {params.host}:{params.port}/{params.database}, " in page
    assert "MiB" in page
    assert "strategy dump" in page
    assert "kept for 7 days" in page
    assert "you will be signed out" in page  # dev is the database of this console
    assert 'name="confirm"' in page


def test_a_backup_that_is_gone_from_the_storage_is_refused(
    operator: Client, backup: Backup
) -> None:
    page = _text(operator.post(f"{LIST}restore/", ACTIONS["restore"][1]))
    assert f"There is no backup named {BACKUP}." in page
    assert "manage.py listbackups" in page
    assert 'name="confirm"' not in page


def test_a_stamp_of_another_environment_is_refused(operator: Client) -> None:
    with session(conf.database_params("dev")) as connection:
        write_stamp(connection, "prod")
    page = _text(operator.post(f"{LIST}triggers/", {"target": "dev"}))
    assert "is stamped prod" in page
    assert 'name="confirm"' not in page


@pytest.mark.parametrize("confirm", [{}, {"confirm": "1", "typed": "prod"}])
def test_prod_is_never_copied_into(operator: Client, settings: Any, confirm: Any) -> None:
    settings.ENVIRONMENT = ActiveEnvironment("prod", "test")
    fields = {"source": "test", "target": "prod", "request_key": str(uuid.uuid4())} | confirm
    page = _text(operator.post(f"{LIST}copy/", fields))
    assert "Copying into prod is not allowed here." in page
    assert 'name="confirm"' not in page
    assert not Operation.objects.exists()


def test_a_console_does_not_write_above_its_own_environment(operator: Client) -> None:
    page = _text(_confirmed(operator, "triggers", target="test", typed="test"))
    assert "This console runs in dev and does not write to test." in page
    assert not Operation.objects.exists()
    # Making the test databases was journalled, too.
    assert JournalEntry.objects.exclude(event="migrated").get().event == "refused"


def test_prod_is_copied_masked_unless_somebody_says_otherwise(operator: Client) -> None:
    page = _text(operator.post(f"{LIST}copy/", {"source": "prod", "target": "dev"}))
    assert "columns of" in page
    assert "arrives in dev unmasked" not in page
    _confirmed(operator, "copy", source="prod")
    assert Operation.objects.get().options == {"strategy": "auto"}
    Operation.objects.all().delete()
    page = operator.post(f"{LIST}copy/", {"source": "prod", "target": "dev", "unmasked": "on"})
    assert "Personal data of prod arrives in dev unmasked." in _text(page)
    _confirmed(operator, "copy", source="prod", unmasked="on")
    assert Operation.objects.get().options == {"strategy": "auto", "unmasked": True}


@pytest.mark.parametrize(("typed", "started"), [("", 0), ("pro", 0), ("dev", 0), ("prod", 1)])
def test_prod_is_written_only_once_its_name_is_typed(
    operator: Client, settings: Any, typed: str, started: int
) -> None:
    settings.ENVIRONMENT = ActiveEnvironment("prod", "test")
    answer = _confirmed(operator, "triggers", target="prod", typed=typed)
    assert Operation.objects.count() == started
    if not started:
        assert "Type prod to confirm." in _text(answer)
        assert 'name="confirm"' in _text(answer)


# While it runs, and after


@pytest.fixture
def queued(operator: Client) -> Operation:
    _confirmed(operator, "backup")
    return Operation.objects.get()


def _progress(client: Client, operation: Operation) -> Any:
    return client.get(f"{LIST}{operation.pk}/progress/").json()


def test_progress_is_told(operator: Client, queued: Operation) -> None:
    Operation.objects.update(
        status="running", step="dump", progress=42, heartbeat_at=timezone.now()
    )
    queued.log_lines.create(kind="step", text="dump")
    now = _progress(operator, queued)
    assert (now["status"], now["active"], now["step"], now["progress"], now["hint"]) == (
        "running", True, "dump", 42, "",
    )  # fmt: skip
    assert [line["text"] for line in now["lines"]] == ["dump"]
    for after in ("9" * 40, "-1", "x", "²"):
        assert operator.get(f"{LIST}{queued.pk}/progress/", {"after": after}).status_code == 200
    page = _text(operator.get(f"{LIST}{queued.pk}/change/"))
    assert '<progress aria-label="Progress of this step" max="100" value="42">' in page


def test_an_operation_nobody_takes_says_how_to_start_a_worker(
    operator: Client, queued: Operation
) -> None:
    assert _progress(operator, queued)["hint"] == ""
    Operation.objects.update(created_at=timezone.now() - timedelta(seconds=6))
    assert "python manage.py db_worker" in _progress(operator, queued)["hint"]
    assert "python manage.py db_worker" in _text(operator.get(f"{LIST}{queued.pk}/change/"))


def test_an_operation_whose_worker_fell_silent_says_so(operator: Client, queued: Operation) -> None:
    Operation.objects.update(status="running", heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert "operations sweep" in _progress(operator, queued)["hint"]


def test_progress_of_strangers_leads_to_the_login_page(operator: Client, queued: Operation) -> None:
    operator.logout()
    answer = operator.get(f"{LIST}{queued.pk}/progress/")
    assert answer.headers["Location"].startswith("/accounts/login/")


def test_cancelling(operator: Client, queued: Operation) -> None:
    path = f"{LIST}{queued.pk}/cancel/"
    assert operator.get(path).status_code == 405
    queued.refresh_from_db()
    assert queued.is_active
    operator.post(path)
    queued.refresh_from_db()
    assert (queued.status, queued.cancel_requested_by) == ("cancelled", "nora")


def test_cancelling_needs_its_permission(sign_in: SignIn) -> None:
    client = sign_in("back_up")
    _confirmed(client, "backup")
    operation = Operation.objects.get()
    assert "Cancel" not in _text(client.get(f"{LIST}{operation.pk}/change/"))
    assert client.post(f"{LIST}{operation.pk}/cancel/").status_code == 403
    operation.refresh_from_db()
    assert operation.is_active


def test_a_failure_shows_its_cause_and_the_next_command(
    operator: Client, queued: Operation
) -> None:
    Operation.objects.update(
        status="failed", error="dev <is> held.", hint="See it.", finished_at=timezone.now()
    )
    page = _text(operator.get(f"{LIST}{queued.pk}/change/"))
    assert "dev &lt;is&gt; held." in page
    assert "See it." in page
    assert "data-progress=" not in page


def test_a_result_is_readable(operator: Client, queued: Operation) -> None:
    Operation.objects.update(
        status="succeeded", finished_at=timezone.now(),
        result={"size": 1536, "rows": 12345, "outage_ms": 3.5, "encrypted": False},
    )  # fmt: skip
    page = _text(operator.get(f"{LIST}{queued.pk}/change/"))
    for value in ("1.5 KiB", "12,345", "3.5 ms", "<dd>no</dd>"):
        assert value in page


@pytest.fixture
def replaced(queued: Operation) -> Operation:
    """A copy that has succeeded."""
    Operation.objects.update(
        kind="copy", source="test", target="dev", status="succeeded",
        started_at=timezone.now(), finished_at=timezone.now(),
        result={"previous": f"dev__previous_{queued.pk}"},
    )  # fmt: skip
    queued.refresh_from_db()
    return queued


def test_an_undo_is_offered_until_the_target_is_replaced_again(
    operator: Client, replaced: Operation
) -> None:
    page = f"{LIST}{replaced.pk}/change/"
    assert f"{LIST}{replaced.pk}/undo/" in _text(operator.get(page))
    Operation.objects.create(
        kind="restore", target="dev", status="succeeded", actor="nora", finished_at=timezone.now()
    )
    assert f"{LIST}{replaced.pk}/undo/" not in _text(operator.get(page))


def test_an_undo_is_confirmed_and_queued(operator: Client, replaced: Operation) -> None:
    path = f"{LIST}{replaced.pk}/undo/"
    assert "no longer kept" in _text(operator.get(path))  # nobody kept one in this test
    assert Operation.objects.count() == 1
    operator.post(path, {"confirm": "1", "request_key": str(uuid.uuid4())})
    undo = Operation.objects.get(kind="undo")
    assert (undo.target, undo.options) == ("dev", {"operation": replaced.pk})


def test_an_undo_needs_the_permission_of_what_it_undoes(
    sign_in: SignIn,
) -> None:
    client = sign_in("restore")
    operation = Operation.objects.create(
        kind="copy", target="dev", status="succeeded", actor="x", finished_at=timezone.now()
    )
    path = f"{LIST}{operation.pk}/undo/"
    assert client.get(path).status_code == client.post(path).status_code == 403


@pytest.mark.parametrize("kind", ["backup", "triggers", "init", "undo"])
def test_only_replacements_are_undone(admin_client: Client, kind: str) -> None:
    operation = Operation.objects.create(kind=kind, source="dev", status="succeeded", actor="x")
    path = f"{LIST}{operation.pk}/undo/"
    assert admin_client.get(path).status_code == admin_client.post(path).status_code == 404


# The records


@pytest.mark.parametrize("model", ["operation", "backup", "journalentry"])
def test_not_even_a_superuser_writes_records(
    admin_client: Client, queued_row: Operation, backup: Backup, model: str
) -> None:
    keys = {"operation": queued_row.pk, "backup": "dev_5F-missing", "journalentry": "1"}
    base = f"/admin/dbops/{model}/"
    assert admin_client.get(base).status_code == 200
    assert admin_client.get(f"{base}add/").status_code in (302, 403)  # 302: no such record
    assert admin_client.post(f"{base}add/").status_code in (302, 403)
    for verb in ("change", "delete"):
        assert admin_client.post(f"{base}{keys[model]}/{verb}/", {"post": "yes"}).status_code in (
            302,
            403,
        )
    admin_client.post(base, {"action": "delete_selected", "_selected_action": [keys[model]]})
    assert Operation.objects.filter(actor="x").exists()
    assert Backup.objects.filter(name=BACKUP).exists()


@pytest.fixture
def queued_row() -> Operation:
    return Operation.objects.create(kind="backup", source="dev", actor="x")


def test_a_backup_has_a_page_that_changes_nothing(admin_client: Client, backup: Backup) -> None:
    page = admin_client.get("/admin/dbops/backup/").content.decode()
    path = re.search(r'href="(/admin/dbops/backup/[^"]+/change/)', page)
    assert path
    answer = admin_client.get(path[1])
    assert answer.status_code == 200
    assert 'name="_save"' not in answer.content.decode()
    assert admin_client.post(path[1], {"size": "1"}).status_code == 403
    assert admin_client.post(path[1].replace("change", "delete")).status_code == 403
    backup.refresh_from_db()
    assert backup.size == 1234


def test_a_new_operation_id_never_collides_with_an_action(admin_client: Client) -> None:
    assert admin_client.get(f"{LIST}nothere/progress/").status_code == 404
    assert admin_client.get(f"{LIST}nothere/undo/").status_code == 404
    assert admin_client.post(f"{LIST}nothere/cancel/").status_code == 404


# The dashboard


def test_the_dashboard_shows_each_environment(operator: Client, backup: Backup) -> None:
    page = _text(operator.get("/"))
    cards = page.split("<article")[1:]
    for name, card in zip(ENVIRONMENTS, cards, strict=True):
        params = conf.database_params(name)
        assert f"{params.host}:{params.port}/{params.database}" in card
        assert "Reachable, PostgreSQL" in card
        assert (">protected<" in card) == (name == "prod")
        assert (">active<" in card) == (name == "dev")
        assert (f"{LIST}restore/?target={name}" in card) == (name == "dev")
        assert f"{LIST}backup/?source={name}" in card
    assert "<dd>never" not in cards[0]
    assert "<dd>never" in cards[1]


def test_the_dashboard_links_a_running_operation(operator: Client, queued: Operation) -> None:
    assert f'data-progress="{LIST}{queued.pk}/progress/"' in _text(operator.get("/"))


def test_who_may_do_nothing_learns_nothing_of_the_databases(sign_in: SignIn) -> None:
    page = _text(sign_in(staff=False).get("/"))
    assert "may not see the databases" in page
    assert "127.0.0.1" not in page
    assert "/admin/dbops/" not in page


def test_an_unreachable_server_is_shown_as_such_and_no_secret_with_it(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"PORT": "1", "PASSWORD": "canary", "USER": "canary-user"}.items():
        monkeypatch.setitem(configured.DATABASES["prod"], key, value)
    page = _text(operator.get("/"))
    assert page.count("Reachable") == 2
    assert "<strong>Unreachable.</strong>" in page
    assert "127.0.0.1:1/" in page
    assert "canary" not in page
    refused = _text(operator.post(f"{LIST}backup/", {"source": "prod"}))
    assert "Cannot connect to" in refused
    assert "canary-user" in refused  # the role is named where it can be mended, never the password
    assert 'name="confirm"' not in refused
    assert not re.search(r"canary(?!-user)", refused)


def test_a_server_that_accepts_and_stays_silent_delays_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        request = InspectRequest("dev", ConnectionParams("dev", "127.0.0.1", port))
        began = time.monotonic()
        facts = inspect_environments([request], patience=0.3)
    assert time.monotonic() - began < 2
    assert facts[0].problem == "No answer within 0.3 seconds."


# Every page


PAGES = [
    "/",
    LIST,
    "/admin/",
    f"{LIST}copy/",
    f"{LIST}restore/",
    f"{LIST}verify/",
    "/admin/dbops/backup/",
    "/admin/dbops/journalentry/",
]


@pytest.mark.parametrize("path", [*PAGES, "/accounts/login/"])
def test_pages_obey_a_strict_content_security_policy(client: Client, path: str) -> None:
    if path != "/accounts/login/":
        client.force_login(User.objects.create_superuser("root"))
    answer: HttpResponse = client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.status_code == 200
    assert {"script-src 'self'", "style-src 'self'"} <= set(policy.split("; "))
    page = answer.content.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script>", page)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_healthz_needs_no_database(
    client: Client, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections["default"], "connection", None)  # as in a fresh process
    with django_db_blocker.block():
        assert client.get("/healthz").content == b"ok\n"
