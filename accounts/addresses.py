"""Where a request comes from.

A header is believed only where a proxy named in ``TRUSTED_PROXIES`` has added to it: anybody can
send one, and would have a new address, and new guesses, with every request.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from django.conf import settings

UNIX = "unix"
"""In ``TRUSTED_PROXIES``: whoever comes by a socket of the file system, and so has no address."""
_BLOCK = 64
"""Bits of an IPv6 address that tell networks apart; a customer has all addresses of one."""


def client_address(request: Any) -> str:
    """The address of the client that no trusted proxy stands behind; "" where it has none.

    From the right, since each proxy adds whom it heard from at the end of ``X-Forwarded-For``; what
    stands before the first address that is not trusted may be invented.
    """
    address = _parsed(request.META.get("REMOTE_ADDR", ""))
    told = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    while told and _is_trusted(address):
        before = _parsed(told.pop())
        if before is None:
            break
        address = before
    return str(address or "")


def address_block(address: str) -> str:
    """What counts as one address: of IPv6 the network, since its owner has 2⁶⁴ of them."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, _BLOCK), strict=False).network_address)
    return str(parsed or "")


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """None for what is no address; a port, a zone, and IPv4 dressed up as IPv6 are taken off."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_trusted(address: IPv4Address | IPv6Address | None) -> bool:
    if address is None:
        return UNIX in settings.TRUSTED_PROXIES
    return any(
        address in ip_network(network, strict=False)
        for network in settings.TRUSTED_PROXIES
        if network != UNIX
    )
