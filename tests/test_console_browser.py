"""The console as a person uses it: a real browser, a real server, a real backup."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connections
from playwright.sync_api import Page, expect, sync_playwright

from accounts.models import User
from dbops import conf, tasks
from dbops.models import Backup, Operation
from dbops.postgres.connection import session
from dbops.postgres.stamp import write_stamp
from tests.conftest import skip_or_fail

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "control", "test", "prod"]),
]
PASSWORD = "correct horse 7 battery"
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complains of: script errors, breaches of the content security policy."""
    return []


@pytest.fixture
def page(live_server: Any, tmp_path: Path, complaints: list[str]) -> Iterator[Page]:
    """A signed-in administrator's browser."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        skip_or_fail("chromium is not installed")
    with session(conf.database_params("dev")) as connection:
        write_stamp(connection, "dev")
    User.objects.create_superuser("nora", password=PASSWORD)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=OPTIONS, base_url=live_server.url
        )
        page = context.new_page()
        page.on("console", lambda it: complaints.append(it.text) if it.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto("/")
        page.get_by_label("Username").fill("nora")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        yield page
        context.close()
        # Under playwright's event loop the test had connections of its own.
        connections.close_all()


def _ask_for_backup(page: Page) -> Operation:
    page.get_by_role("article", name="dev").get_by_role("link", name="Back up").click()
    expect(page.get_by_label("dev")).to_be_checked()
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("nothing; people can go on working")).to_be_visible()
    assert not Operation.objects.exists()
    page.get_by_role("button", name="Back up").click()
    expect(page.get_by_text("queued", exact=True)).to_be_visible()
    return Operation.objects.get()


def test_a_backup_from_the_dashboard_to_its_outcome(page: Page, complaints: list[str]) -> None:
    operation = _ask_for_backup(page)
    tasks.run_operation.call(operation.pk)  # what a worker does
    expect(page.get_by_text("succeeded", exact=True)).to_be_visible()  # without a reload by hand
    made = Backup.objects.get()
    expect(page.get_by_text(made.name)).to_be_visible()
    page.get_by_role("link", name="Backups").click()
    expect(page.get_by_role("link", name=made.name)).to_be_visible()
    page.get_by_role("link", name="Dashboard").click()
    expect(page.get_by_role("article", name="dev")).to_contain_text("Back up succeeded")
    assert complaints == []


def test_a_backup_is_pinned_and_fully_verified_from_its_page(
    page: Page, complaints: list[str]
) -> None:
    tasks.run_operation.call(_ask_for_backup(page).pk)
    page.goto("/admin/dbops/backup/")
    page.get_by_role("link", name=Backup.objects.get().name).click()
    page.get_by_role("button", name="Pin").click()
    expect(page.get_by_text("pruning never deletes it").first).to_be_visible()
    page.get_by_role("link", name="Verify…").click()
    page.get_by_label("Restore it aside and compare").press("Space")  # by keyboard alone
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Verify").press("Enter")
    expect(page.get_by_text("queued", exact=True)).to_be_visible()
    tasks.run_operation.call(Operation.objects.get(kind="verify").pk)
    expect(page.get_by_text("✓ right").first).to_be_visible()
    page.get_by_role("link", name="Dashboard").click()
    expect(page.get_by_role("article", name="dev")).to_contain_text("restored aside and compared")
    assert complaints == []


def test_more_is_opened_by_keyboard(page: Page, complaints: list[str]) -> None:
    page.goto("/admin/dbops/operation/restore/")
    expect(page.get_by_label("Only these tables")).to_be_hidden()
    page.get_by_text("More", exact=True).press("Enter")
    page.get_by_label("Only these tables").fill("clinic.visit")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Only these tables")).to_have_value("clinic.visit")  # unfolded
    assert complaints == []


def test_a_running_operation_moves_on_its_page(page: Page, complaints: list[str]) -> None:
    operation = _ask_for_backup(page)
    Operation.objects.update(status="running", step="dump", progress=40)
    operation.log_lines.create(kind="step", text="dump <b>all</b>")
    expect(page.get_by_text("running", exact=True)).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "40")
    expect(page.get_by_text("dump <b>all</b>")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Asked to stop")).to_be_visible()
    Operation.objects.update(status="cancelled")
    expect(page.get_by_text("cancelled", exact=True)).to_be_visible()
    assert complaints == []


def test_a_session_that_goes_with_the_database_leads_to_the_login_page(page: Page) -> None:
    operation = _ask_for_backup(page)
    Session.objects.all().delete()
    page.wait_for_url(f"**/accounts/login/?next=*{operation.pk}*")


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_window_or_breaks_the_policy(
    page: Page, complaints: list[str], width: int, scheme: Any
) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme=scheme)
    actions = [
        f"operation/{action}" for action in ("backup", "restore", "copy", "triggers", "verify")
    ]
    for path in ("", "operation", "backup", "journalentry", *actions):
        page.goto(f"/admin/dbops/{path}/" if path else "/")
        shown = page.evaluate("document.documentElement.scrollWidth")
        assert shown <= width, f"{path or 'dashboard'} is {shown} wide"
    assert complaints == []


def test_the_page_environment_at_every_width(page: Page, complaints: list[str]) -> None:
    page.get_by_role("link", name="Environment").click()
    expect(page.get_by_role("heading", name="Which one, and why")).to_be_visible()
    for scheme, width in (("light", 1440), ("dark", 360)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
