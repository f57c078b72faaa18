"""Where a request comes from, and whom that is believed."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import RequestFactory
from environ import Env

from accounts.addresses import address_block, client_address
from skinspire import variables


def _address(came_from: str, told: str | None = None) -> str:
    headers = {} if told is None else {"X-Forwarded-For": told}
    return client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=came_from))


@pytest.mark.parametrize(
    ("came_from", "address"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8::1", "2001:db8::1"), ("", ""), ("unix:", ""),
    ],
)  # fmt: skip
def test_without_proxies_the_header_is_ignored(settings: Any, came_from: str, address: str) -> None:
    """Fault 59: a forged X-Forwarded-For is nobody's address."""
    settings.TRUSTED_PROXIES = []
    assert _address(came_from, "198.51.100.9") == address


@pytest.mark.parametrize(
    ("told", "address"),
    [
        (None, "10.1.1.1"), ("", "10.1.1.1"), ("192.0.2.7", "192.0.2.7"),
        ("198.51.100.9, 192.0.2.7", "192.0.2.7"), ("192.0.2.7, 10.2.2.2", "192.0.2.7"),
        ("192.0.2.7,nonsense", "10.1.1.1"), ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::1]:80", "2001:db8::1"), ("10.9.9.9", "10.9.9.9"),
    ],
)  # fmt: skip
def test_behind_proxies_the_last_address_they_do_not_own_counts(
    settings: Any, told: str | None, address: str
) -> None:
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48"]
    assert _address("10.1.1.1", told) == address


def test_who_comes_past_the_proxy_is_not_believed(settings: Any) -> None:
    settings.TRUSTED_PROXIES = ["10.1.1.1"]
    assert _address("10.1.1.2", "192.0.2.7") == "10.1.1.2"


def test_a_local_socket_is_a_proxy_where_that_is_said(settings: Any) -> None:
    settings.TRUSTED_PROXIES = []
    assert _address("", "192.0.2.7") == ""
    settings.TRUSTED_PROXIES = ["unix"]
    assert _address("", "192.0.2.7") == "192.0.2.7"


def test_of_ipv6_a_network_counts_as_one_address() -> None:
    assert address_block("2001:db8:1:2:3:4:5:6") == address_block("2001:db8:1:2::9")
    assert address_block("2001:db8:1:2::9") != address_block("2001:db8:1:3::9")
    assert address_block("192.0.2.7") == "192.0.2.7"
    assert address_block("") == ""


def test_an_odd_network_is_reported_and_trusts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variables, "problems", [])
    env = Env()
    env.ENVIRON = {"TRUSTED_PROXIES": "10.1.2.3/8, all, unix"}
    assert variables.read_networks(env, "TRUSTED_PROXIES", []) == ["10.0.0.0/8", "unix"]
    assert len(variables.problems) == 1
