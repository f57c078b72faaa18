"""Backups in the console: verified, pinned, restored whole or by table; from the form to the page
that tells what came of it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.forms import ValidationError
from django.test import Client
from django.utils import timezone

from accounts.browser import PROVEN_AT
from accounts.models import Session, User
from dbops import conf, runner, tasks
from dbops.admin.presentation import result_rows
from dbops.exceptions import BackupInvalidError
from dbops.forms import TablesField
from dbops.models import Backup, JournalEntry, Operation
from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.stamp import write_stamp
from skinspire.environment import ENVIRONMENTS, ActiveEnvironment

SignIn = Callable[..., Client]
pytestmark = pytest.mark.django_db(
    transaction=True, databases=["default", "control", "test", "prod"]
)
FORM = "/admin/dbops/operation/{}/"
LIST = "/admin/dbops/backup/"


@pytest.fixture
def _wards(django_db_setup: None) -> Iterator[None]:
    """dev, stamped, with two tables of its own."""
    for name in ENVIRONMENTS:
        with session(conf.database_params(name)) as connection:
            write_stamp(connection, name)
    with session(conf.database_params("dev")) as connection:
        execute(connection, "CREATE TABLE public.ward AS SELECT generate_series(1, 3) AS bed")
        execute(connection, "CREATE TABLE public.visit AS SELECT generate_series(1, 5) AS day")
    yield
    with session(conf.database_params("dev")) as connection:
        execute(connection, "DROP TABLE IF EXISTS public.ward, public.visit")


@pytest.fixture
def made(_wards: None) -> Backup:
    """A real backup of dev."""
    operation, _ = runner.submit(Operation.Kind.BACKUP, source="dev", actor="nora")
    return Backup.objects.get(name=runner.run(operation).result["name"])


@pytest.fixture
def row() -> Callable[..., Backup]:
    """A row of the catalogue alone."""

    def row(name: str, **facts: Any) -> Backup:
        known = {
            "environment": "dev", "created_at": timezone.now(), "size": 1, "sha256": "0" * 64,
            "rows": 7, "tables": 3, "server_version": "18.4", "actor": "nora",
            "operation": "0123456789ab",
        }  # fmt: skip
        return Backup.objects.create(name=name, **known | facts)

    return row


def _text(answer: Any) -> str:
    return unescape(re.sub(r"\s+", " ", answer.content.decode()))


def _page(backup: Backup) -> str:
    return f"{LIST}{quote(backup.pk)}/change/"


def _ask(client: Client, action: str, **fields: str) -> str:
    return _text(client.post(FORM.format(action), fields))


def _do(client: Client, action: str, **fields: str) -> tuple[Operation, str]:
    """Confirm it, let a worker run it, and read the page of the operation."""
    confirmed = {"confirm": "1", "request_key": str(uuid.uuid4())}
    answer = client.post(FORM.format(action), fields | confirmed)
    assert answer.status_code == 302, _text(answer)
    operation = Operation.objects.latest("created_at")
    tasks.run_operation.call(operation.pk)
    operation.refresh_from_db()
    return operation, _text(client.get(answer.headers["Location"]))


def _rows(table: str) -> Any:
    with session(conf.database_params("dev")) as connection:
        return fetch_value(connection, f"SELECT count(*) FROM public.{table}")


# Verifying


def test_a_full_verification_from_the_form_to_the_dashboard(
    admin_client: Client, made: Backup
) -> None:
    assert "never proven" in _text(admin_client.get("/")).split("<article")[1]
    assert "nobody has tried" in _text(admin_client.get(_page(made)))
    asked = _ask(admin_client, "verify", backup=made.name, full="on")
    assert "in a scratch database beside" in asked
    assert "nothing; people can go on working" in asked
    operation, told = _do(admin_client, "verify", backup=made.name, full="on")
    assert (operation.status, operation.target) == ("succeeded", "dev")
    assert operation.options == {"name": made.name, "full": True}
    for check in ("Signature", "Checksum", "Rows", "Structure", "Sequences", "Triggers", "Grants"):
        assert f'<dt>{check}</dt><dd><strong class="good">✓ right</strong>: ' in told
    for path in ("/", LIST, _page(made)):
        assert "restored aside and compared" in _text(admin_client.get(path))


def test_the_checksum_alone_needs_no_server(admin_client: Client, made: Backup) -> None:
    operation, told = _do(admin_client, "verify", backup=made.name)
    assert (operation.status, operation.target) == ("succeeded", "")
    assert "Structure" not in told
    made.refresh_from_db()
    assert made.verified_how == "checksum"


def test_a_damaged_backup_is_called_so_until_it_is_right_again(
    admin_client: Client, made: Backup
) -> None:
    directory = conf.backup_store().directory
    assert directory
    file = directory / made.name
    right = file.read_bytes()
    file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    operation, told = _do(admin_client, "verify", backup=made.name)
    assert operation.status == "failed"
    assert "its checksum does not match" in told
    assert "found damaged" in _text(admin_client.get(LIST))
    assert "Its last verification found it damaged" in _text(admin_client.get(_page(made)))
    file.write_bytes(right)
    _do(admin_client, "verify", backup=made.name)
    assert "damaged" not in _text(admin_client.get(LIST)) + _text(admin_client.get(_page(made)))


def test_a_forged_manifest_is_told_but_can_be_put_on_record(
    admin_client: Client, made: Backup
) -> None:
    directory = conf.backup_store().directory
    assert directory
    file = directory / f"{made.name}.metadata"
    file.write_text(file.read_text().replace('"rows"', '"Rows"').replace("nora", "nobody"))
    asked = _ask(admin_client, "verify", backup=made.name, full="on")
    assert "Verifying it will fail and say so." in asked
    assert 'name="confirm"' in asked


def test_checks_that_failed_are_said_in_words() -> None:
    checks = [{"name": "rows", "ok": False, "value": "<b> holds 2 instead of 3 rows"}]
    assert result_rows({"checks": checks}) == [
        ("Rows", '<strong class="bad">✗ wrong</strong>: &lt;b&gt; holds 2 instead of 3 rows')
    ]


def test_what_pruning_did_is_readable() -> None:
    kept = [{"name": "a<b", "reasons": ["newest good", "pinned"]}]
    refused = {"x": "The backup storage cannot be written"}
    told = dict(result_rows({"deleted": [], "kept": kept, "freed": 1536, "refused": refused}))
    assert (told["Deleted"], told["Freed"]) == ("none", "1.5 KiB")
    assert "<summary>1</summary>" in told["Kept"]
    assert "<li>a&lt;b (newest good, pinned)</li>" in told["Kept"]
    assert "<li>x (The backup storage cannot be written)</li>" in told["Refused"]


# Restoring tables


def test_tables_are_replaced_alone_and_can_be_put_back(admin_client: Client, made: Backup) -> None:
    with session(conf.database_params("dev")) as connection:
        execute(connection, "DELETE FROM public.ward WHERE bed > 1")
        execute(connection, "DELETE FROM public.visit")
    fields = {"backup": made.name, "target": "dev", "tables": "ward"}
    asked = _ask(admin_client, "restore", **fields)
    for sentence in (
        "only public.ward; the rest stays as it is",
        "public.ward (3 rows)",
        "the tables are locked for a moment",
        "they are backed up first",
    ):
        assert sentence in asked
    assert "signed out" not in asked
    operation, told = _do(admin_client, "restore", **fields)
    assert operation.options == {"name": made.name, "tables": ["public.ward"]}
    assert (operation.status, _rows("ward"), _rows("visit")) == ("succeeded", 3, 0)
    saved = Backup.objects.get(partial=True)
    assert f'<dt>Kept as backup</dt><dd><a href="{_page(saved)}">{saved.name}</a>' in told
    assert "Undo…" not in told

    link = re.search(r'href="([^"]+)">Put back what was there', told)
    assert link
    form = _text(admin_client.get(link[1]))
    assert re.search(rf'value="{saved.name}" selected', form)
    assert "<details" in form
    assert re.search(r"<details[^>]* open>", form)
    assert "public.ward</textarea>" in form
    fields = {"backup": saved.name, "target": "dev", "tables": "public.ward"}
    operation, _ = _do(admin_client, "restore", **fields)
    assert (operation.status, _rows("ward")) == ("succeeded", 1)


def test_a_table_the_backup_does_not_count_is_told_with_the_nearest(
    admin_client: Client, made: Backup
) -> None:
    tables = "wards, clinic.visit, nowhere"
    asked = _ask(admin_client, "restore", backup=made.name, target="dev", tables=tables)
    assert "counts no rows of public.wards. Did you mean public.ward?" in asked
    assert "counts no rows of clinic.visit. Did you mean public.visit?" in asked
    assert "counts no rows of public.nowhere.<" in asked


def test_a_whole_restore_says_what_is_kept(admin_client: Client, made: Backup) -> None:
    more = {"no_owner": "on", "skip_privileged": "on"}
    asked = _ask(admin_client, "restore", backup=made.name, target="dev", **more)
    params = conf.database_params("dev")
    assert f"<dd>dev: {params.host}:{params.port}/{params.database}, " in asked
    assert "kept for 7 days" in asked
    assert f"everything belongs to {params.user}" in asked
    assert "nothing: there is no need" in asked
    confirmed = {"confirm": "1", "request_key": str(uuid.uuid4())}
    fields = {"backup": made.name, "target": "dev", "tables": " "} | more | confirmed
    admin_client.post(FORM.format("restore"), fields)
    operation = Operation.objects.latest("created_at")
    assert operation.options == {"name": made.name, "no_owner": True, "skip_privileged": True}


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("", []),
        (" \n,\r\n", []),
        ("visit", ["public.visit"]),
        ("clinic.visit,  clinic.ward\r\nclinic.visit", ["clinic.visit", "clinic.ward"]),
        ("a.b.c", ["a.b.c"]),
        ('x"; DROP TABLE y', ['public.x"; DROP TABLE y']),
    ],
)
def test_tables_are_read_from_lines_and_commas(text: str, tables: list[str]) -> None:
    assert TablesField().clean(text) == tables


@pytest.mark.parametrize("text", [".visit", "clinic.", "a,.", "a\x00b", "x" * 10_001])
def test_what_is_no_table_is_an_error_of_the_form(text: str) -> None:
    with pytest.raises(ValidationError):
        TablesField().clean(text)


def test_of_a_partial_backup_only_what_it_can_do_is_taken(
    admin_client: Client, row: Callable[..., Backup]
) -> None:
    name = row("part.dump.zst", partial=True).name
    whole = _ask(admin_client, "restore", backup=name, target="dev")
    assert "name the tables to restore from it" in whole
    assert re.search(r"<details[^>]* open>", whole)
    full = _ask(admin_client, "verify", backup=name, full="on")
    assert "only its checksum can be verified" in full
    assert 'name="confirm"' not in whole + full


# Leave to let data out unmasked


def test_where_nobody_can_give_leave_the_policy_says_so(
    admin_client: Client, row: Callable[..., Backup], settings: Any
) -> None:
    settings.DBOPS_ALLOW_UNMASKED = False
    name = row("prod.dump.zst", environment="prod").name
    assert 'name="unmasked"' not in _text(admin_client.get(FORM.format("restore")))
    asked = _ask(admin_client, "restore", backup=name, target="dev", unmasked="on")
    assert "This is refused." in asked
    assert "data of prod would arrive in dev unmasked." in asked
    assert "DBOPS_ALLOW_UNMASKED" in asked
    assert 'name="confirm"' not in asked
    assert 'name="unmasked"' not in _text(admin_client.get(FORM.format("copy")))


def test_a_verification_stays_with_its_environment_and_needs_no_leave(
    admin_client: Client, row: Callable[..., Backup], settings: Any
) -> None:
    settings.DBOPS_ALLOW_UNMASKED = False
    name = row("prod.dump.zst", environment="prod").name
    confirmed = {"confirm": "1", "request_key": str(uuid.uuid4())}
    fields = {"backup": name, "full": "on"} | confirmed
    # A console of dev makes no database on production's server.
    assert "does not write to prod" in _text(admin_client.post(FORM.format("verify"), fields))
    settings.ENVIRONMENT = ActiveEnvironment("prod", "test")
    assert admin_client.post(FORM.format("verify"), fields).status_code == 302
    assert Operation.objects.get().target == "prod"


# The pages of the catalogue


def test_marks_and_filters(admin_client: Client, row: Callable[..., Backup]) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    row("plain.zst")
    row("proven.zst", verified_at=yesterday, verified_how="full", environment="prod")
    row("marked.zst", encrypted=True, pinned=True, partial=True)
    page = _text(admin_client.get(LIST))
    for mark in ("encrypted", "pinned", "partial"):
        assert page.count(f'<span class="tag">{mark}</span>') == 1
    for query, names in {
        "verified_how=never": {"plain", "marked"},
        "verified_how=full": {"proven"},
        "verified_how=restored": set(),
        "pinned__exact=1": {"marked"},
        "environment=prod": {"proven"},
    }.items():
        listed = _text(admin_client.get(f"{LIST}?{query}"))
        assert set(re.findall(r">(\w+)\.zst</a>", listed)) == names, query


def test_links_are_for_whoever_may_follow_them(sign_in: SignIn, row: Callable[..., Backup]) -> None:
    backup = row("x.zst")
    client = sign_in("view_backup", "verify_backup")
    for path in (LIST, _page(backup)):
        shown = _text(client.get(path))
        assert f"{FORM.format('verify')}?backup=x.zst" in shown
        assert FORM.format("restore") not in shown
        assert "/pin/" not in shown
    form = _text(client.get(FORM.format("verify"), {"backup": backup.name}))
    assert 'value="x.zst" selected' in form


def test_pinning(admin_client: Client, made: Backup) -> None:
    path = f"{LIST}{made.name}/pin/"
    assert path in _text(admin_client.get(_page(made)))
    assert admin_client.get(path).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    assert strict.post(path, {"pinned": "yes"}).status_code == 403
    assert not conf.backup_store().is_pinned(made.name)
    for wish, event in (("yes", "pinned"), ("no", "unpinned")):
        told = _text(admin_client.post(path, {"pinned": wish}, follow=True))
        assert f"{event.capitalize()}: pruning" in told
        made.refresh_from_db()
        assert made.pinned == conf.backup_store().is_pinned(made.name) == (wish == "yes")
        entry = JournalEntry.objects.latest("sequence")
        assert (entry.event, entry.actor, entry.details) == (event, "admin", {"backup": made.name})


def test_pinning_needs_its_own_permission(sign_in: SignIn, made: Backup) -> None:
    client = sign_in("view_backup", "verify_backup", "restore", "back_up")
    assert client.post(f"{LIST}{made.name}/pin/", {"pinned": "yes"}).status_code == 403
    assert not conf.backup_store().is_pinned(made.name)


def test_what_cannot_be_pinned_is_told(admin_client: Client, row: Callable[..., Backup]) -> None:
    gone = row("gone.zst")
    told = _text(admin_client.post(f"{LIST}{gone.name}/pin/", {"pinned": "yes"}, follow=True))
    assert "There is no backup named gone.zst." in told
    assert admin_client.post(f"{LIST}never.zst/pin/", {"pinned": "yes"}).status_code == 404
    gone.refresh_from_db()
    assert not gone.pinned


def _download(client: Client, backup: Backup) -> Any:
    return client.post(f"{LIST}{quote(backup.pk)}/download/")


def _downloads() -> list[tuple[str, str, str]]:
    rows = JournalEntry.objects.filter(event__startswith="download").order_by("sequence")
    return [(it.event, it.actor, it.details.get("error", "")) for it in rows]


def test_a_backup_is_taken_along_as_it_is_stored(sign_in: SignIn, made: Backup) -> None:
    client = sign_in("download_backup", "view_backup")
    assert "Download" in _text(client.get(_page(made)))
    answer = _download(client, made)
    stored = (conf.backup_store().directory or Path()) / made.name
    assert b"".join(answer.streaming_content) == stored.read_bytes()
    assert f'filename="{made.name}"' in answer.headers["Content-Disposition"]
    assert answer.headers["Content-Length"] == str(stored.stat().st_size)
    assert _downloads() == [("downloaded", "nora", "")]


def test_downloads_of_others_and_replayed_ones(sign_in: SignIn, made: Backup) -> None:
    """Fault 55: without the permission, without a session any more, without a recent sign-in, and
    by looking at the address nobody gets anything; what is refused is recorded."""
    outsider = sign_in("view_backup", "pin_backup", "download_backup_test")
    assert _download(outsider, made).status_code == 403
    assert _downloads() == [("download_refused", "nora", "permission")]
    assert "Download" not in _text(outsider.get(_page(made)))
    nora = User.objects.get()
    nora.user_permissions.add(Permission.objects.get(codename="download_backup"))
    page = f"{LIST}{quote(made.pk)}/download/"
    assert outsider.get(page).status_code == 405
    assert b"".join(_download(outsider, made).streaming_content)
    browser = outsider.session
    browser[PROVEN_AT] -= configured.ACCOUNT_FRESH_MINUTES * 60
    browser.save()
    assert _download(outsider, made).url.startswith("/accounts/confirm/")
    Session.objects.update(ended_at=timezone.now(), end_reason="signed_out")
    assert _download(outsider, made).url.startswith("/accounts/login/")
    assert [event for event, _, _ in _downloads()] == ["download_refused", "downloaded"]


def test_what_is_not_what_was_sealed_never_arrives_whole(sign_in: SignIn, made: Backup) -> None:
    client = sign_in("download_backup")
    stored = (conf.backup_store().directory or Path()) / made.name
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    parts = _download(client, made).streaming_content
    received = [next(parts)]
    with pytest.raises(BackupInvalidError):
        received.extend(parts)
    assert len(b"".join(received)) < len(whole)
    stored.write_bytes(whole[:-1])
    assert "not as long" in _told(client, made)
    stored.unlink()
    stored.symlink_to("/etc/passwd")
    assert "a link to another file" in _told(client, made)
    assert [error for _, _, error in _downloads()] == ["", "backup_invalid", "backup_invalid"]


def _told(client: Client, backup: Backup) -> str:
    answer = client.post(f"{LIST}{quote(backup.pk)}/download/")
    assert answer.status_code == 302
    return " ".join(str(it) for it in get_messages(answer.wsgi_request))


@pytest.mark.usefixtures("_wards")
def test_rows_of_prod_leave_only_encrypted(sign_in: SignIn) -> None:
    operation, _ = runner.submit(Operation.Kind.BACKUP, source="prod", actor="nora")
    made = Backup.objects.get(name=runner.run(operation).result["name"])
    client = sign_in("download_backup")
    assert "is not encrypted" in _told(client, made)
    assert _downloads() == [("download_refused", "nora", "refused")]


NO_NAMES = ("..%2F..%2Fsecret_key", "%2Fetc%2Fpasswd", "..%252Fsecret_key", "a%00b", "linked", "..")


def test_names_that_are_none_are_not_found(sign_in: SignIn, made: Backup) -> None:
    """Fault 54: `../`, an absolute path, `%2e` and `%2f`, NUL, a symlink beside the backups."""
    directory = conf.backup_store().directory
    assert directory is not None
    (directory / "linked").symlink_to("/etc/passwd")
    client = sign_in("view_backup", "pin_backup", "download_backup")
    pages = {"change": client.get, "pin": client.post, "download": client.post}
    for name, (page, ask) in product(NO_NAMES, pages.items()):
        answer = ask(f"{LIST}{name}/{page}/", follow=True)
        # The admin's own way to say so is a sentence on the list.
        found = answer.status_code != 404 and "doesn’t exist" not in _text(answer)
        assert not found, (name, page)
    assert _downloads() == []
    (directory / "linked").unlink()
