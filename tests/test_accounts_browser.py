"""Accounts as a person uses them: a real browser, mostly by keyboard, and axe-core looks on."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice
from playwright.sync_api import Browser, Page, expect, sync_playwright

from accounts.invitations import invite, path_of
from accounts.models import Session, User
from tests.conftest import skip_or_fail

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "control", "test", "prod"]),
]
PASSWORD, OTHER = "correct horse 7 battery", "quite another 8 staple"
OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LOOKS = [("light", 360), ("light", 1440), ("dark", 360), ("dark", 1440)]
WITH_AXE = {("light", 1440), ("dark", 360)}
expect.set_options(timeout=20_000)  # milliseconds; two cores are shared with the other tests


@pytest.fixture
def chromium(live_server: Any) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if program is None:
        skip_or_fail("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()
        connections.close_all()  # under playwright's event loop the test had some of its own


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complains of: script errors, breaches of the content security policy."""
    return []


@pytest.fixture
def page(chromium: Browser, live_server: Any, complaints: list[str]) -> Page:
    """Of somebody who is not signed in."""
    User.objects.create_user("nora", "nora@example.org", PASSWORD)
    return _another(chromium, live_server, complaints)


def _another(chromium: Browser, live_server: Any, complaints: list[str]) -> Page:
    """A browser of its own."""
    # Without motion: a colour that is still changing is no colour to measure.
    page = chromium.new_context(base_url=live_server.url, reduced_motion="reduce").new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda it: _hear(it, complaints))
    return page


def _hear(message: Any, complaints: list[str]) -> None:
    """That a page answered 4xx is no complaint: it was meant to."""
    if message.type == "error" and "status of 4" not in message.text:
        complaints.append(message.text)


def _type(page: Page, *texts: str) -> None:
    """Into the field that has the focus, and those that follow; then Enter. By keyboard alone."""
    for number, text in enumerate(texts):
        if number:
            page.keyboard.press("Tab")
        expect(page.locator("input:focus")).to_have_value("")
        page.keyboard.type(text)
    page.keyboard.press("Enter")


def _sign_in(page: Page, password: str = PASSWORD) -> None:
    page.goto("/accounts/login/")
    _type(page, "nora", password)


def _press(page: Page, name: str, role: Any = "button") -> None:
    """Go there by Tab, as somebody without a mouse does, and press Enter."""
    target = page.get_by_role(role, name=name, exact=True).first
    expect(target).to_be_visible()
    for _ in range(60):
        if target.evaluate("it => it === document.activeElement"):
            shown = target.evaluate("it => getComputedStyle(it).outlineStyle")
            assert shown != "none", f"the focus on {name} cannot be seen"
            page.keyboard.press("Enter")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached by keyboard")


def _sign_out(page: Page) -> None:
    _press(page, "Sign out")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_signing_in_failing_and_being_locked_out(page: Page, complaints: list[str]) -> None:
    page.goto("/environments/")
    _type(page, "nora", "wrong horse")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Username")).to_have_value("nora")
    expect(page.get_by_label("Password")).to_have_value("")
    page.get_by_label("Password").focus()
    _type(page, PASSWORD)
    expect(page.get_by_role("heading", name="Not allowed")).to_be_visible()  # next was kept
    _sign_out(page)
    for _ in range(5):
        _sign_in(page, "wrong horse")
        expect(page.get_by_role("alert")).to_be_visible()
    with page.expect_response(re.compile("/accounts/login/")) as answer:
        _sign_in(page)
        expect(page.get_by_role("alert")).to_be_visible()
    assert answer.value.status in (200, 429)
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert complaints == []


def test_a_password_is_reset_by_mail(page: Page, live_server: Any, complaints: list[str]) -> None:
    page.goto("/accounts/login/")
    _press(page, "Forgotten your password?", "link")
    page.get_by_label("Email").focus()
    _type(page, "nora@example.org")
    expect(page.get_by_text("a link is on its way")).to_be_visible()
    while writers := [it for it in threading.enumerate() if it.name == "mail"]:
        writers[0].join(5)
    link = re.search(r"http://\S+(/accounts/\S+)", str(mail.outbox[-1].body))
    assert link
    page.goto(link[1])
    page.get_by_label("New password", exact=True).focus()
    _type(page, OTHER, OTHER)
    expect(page.get_by_text("Sign in with it")).to_be_visible()
    _sign_in(page, OTHER)
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    assert complaints == []


def test_another_session_is_ended(
    page: Page, chromium: Browser, live_server: Any, complaints: list[str]
) -> None:
    other = _another(chromium, live_server, complaints)
    for it in (other, page):
        _sign_in(it)
        expect(it.get_by_role("heading", name="Databases")).to_be_visible()
    _press(page, "nora", "link")
    expect(page.get_by_text("this one")).to_be_visible()
    _press(page, "End all others")
    expect(page.get_by_text("1 ended")).to_be_visible()
    other.goto("/accounts/sessions/")
    expect(other.get_by_text("was ended from another of your sessions")).to_be_visible()
    assert other.url.endswith("/accounts/login/?next=/accounts/sessions/")
    assert Session.objects.active().count() == 1
    assert complaints == []


def test_a_second_factor_is_set_up_and_used(page: Page, complaints: list[str]) -> None:
    _sign_in(page)
    _press(page, "nora", "link")
    _press(page, "Second factor", "link")
    _press(page, "Set it up")
    picture = page.get_by_role("img", name="QR code")
    expect(picture).to_be_visible()
    assert picture.evaluate("it => it.naturalWidth") > 100  # the policy lets it in
    device = TOTPDevice.objects.get()
    page.get_by_label("Code").focus()
    _type(page, f"{TOTP(device.bin_key).token():06d}")
    expect(page.get_by_text("shown this once")).to_be_visible()
    recovery = page.locator(".codes code").first.inner_text()
    _sign_out(page)
    TOTPDevice.objects.update(last_t=-1)
    _sign_in(page)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    _type(page, f"{TOTP(device.bin_key).token():06d}")
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    _sign_out(page)
    _sign_in(page)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    _type(page, recovery)
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    assert complaints == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which ``.ci/run`` fetches; ``SKINSPIRE_TEST_AXE`` names another."""
    beside = Path(__file__).parents[1] / "var/ci/node_modules/axe-core/axe.min.js"
    found = Path(os.environ.get("SKINSPIRE_TEST_AXE", beside))
    if not found.is_file():
        skip_or_fail("axe-core is not installed: npm install --prefix var/ci axe-core")
    return found.read_text(encoding="utf-8")


def _look(page: Page, axe: str, name: str) -> list[str]:
    """What axe finds, and whether anything is wider than the window, in every look."""
    found = []
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{name} is wider than {width}")
        if where := os.environ.get("SKINSPIRE_TEST_PICTURES"):
            page.screenshot(path=f"{where}/{name}-{scheme}-{width}.png", full_page=True)
        if (scheme, width) not in WITH_AXE:
            continue
        page.evaluate(axe)  # past the policy, as by the browser's own console
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(result["passes"]) > 10, "axe has not looked"
        for it in result["violations"]:
            nodes = "; ".join(node["html"][:120] for node in it["nodes"][:3])
            found.append(f"{name} {scheme} {width}: {it['id']}: {it['help']}: {nodes}")
    return found


def test_axe_finds_nothing_on_any_page_of_accounts(page: Page, axe: str, settings: Any) -> None:
    settings.ACCOUNT_REGISTRATION = "open"
    invited = path_of(invite("omar@example.org", by="root"))
    found = []
    for path in ("login", "register", "password/reset", "password/reset/MQ/x-y"):
        page.goto(f"/accounts/{path}/")
        found += _look(page, axe, path.replace("/", "-"))
    page.goto(invited)
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password confirmation").fill("other")
    page.get_by_label("Username").fill("nora")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_text("already exists")).to_be_visible()
    found += _look(page, axe, "register-refused")
    _sign_in(page, "wrong horse")
    expect(page.get_by_role("alert")).to_be_visible()
    found += _look(page, axe, "login-refused")
    assert found == []


def test_axe_finds_nothing_on_the_pages_of_ones_own_account(page: Page, axe: str) -> None:
    User.objects.update(is_staff=True, is_superuser=True)
    nora = User.objects.get()
    Session.objects.create(
        user=nora, expires_at="2100-01-01T00:00:00Z", address="2001:db8::17", door="api",
        device="Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    )  # fmt: skip
    _sign_in(page)
    expect(page.get_by_role("heading", name="Databases")).to_be_visible()
    found = _look(page, axe, "dashboard")
    for path in ("sessions", "password", "second-factor", "confirm"):
        page.goto(f"/accounts/{path}/")
        found += _look(page, axe, path)
    page.goto("/accounts/second-factor/")
    page.get_by_role("button", name="Set it up").click()
    found += _look(page, axe, "set-up")
    page.get_by_label("Code").fill(f"{TOTP(TOTPDevice.objects.get().bin_key).token():06d}")
    page.get_by_role("button", name="Switch it on").click()
    found += _look(page, axe, "recovery-codes")
    page.goto("/accounts/second-factor/")
    found += _look(page, axe, "second-factor-set")
    _sign_out(page)
    _sign_in(page)
    expect(page.get_by_role("heading", name="Second step")).to_be_visible()
    found += _look(page, axe, "second-step")
    assert found == []
