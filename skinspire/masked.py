"""URLs without what is secret in them."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

HIDDEN = "***"
PLACE = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[\w.%~-]*)(?::\d*)?")
"""A name or address, or a directory of sockets in its escaped form; ":" and digits behind it."""
_PATH = re.compile(r"[^:;=]*")
SHOWN_OPTIONS = frozenset({
    "host", "port", "sslmode", "sslrootcert", "channel_binding", "connect_timeout",
    "target_session_attrs", "load_balance_hosts", "application_name", "endpoint_url", "region_name",
})  # fmt: skip
"""Options behind the question mark that hold no secret; every other value is hidden."""


def mask_url(url: str) -> str:
    """The URL with ``***`` for its password and for every option not known to be harmless.

    One that could be read in two ways, as with an unescaped ``/`` in its password, or where what
    looks like a password stands in another place, is hidden whole.
    """
    try:
        parts = urlsplit(url)
        if not (is_unambiguous(parts) and _is_in_shape(url, parts)):
            return HIDDEN
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return HIDDEN
    shown = f"{parts.scheme}://{_mask_address(parts.netloc)}{parts.path}"
    query = "&".join(f"{name}={_mask_option(name, value)}" for name, value in options)
    return f"{shown}?{query}" if query else shown


def place_of(url: str) -> str:
    """Where a database URL leads, by its words: without credentials, and without the usual port."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2].lower().removesuffix(":5432")
    return f"{address}{parts.path}?{parts.query}"


def is_unambiguous(parts: SplitResult) -> bool:
    """False where a piece of the password may stand in another part of the URL."""
    _, _, address = parts.netloc.rpartition("@")
    user, _, _ = parts.netloc.partition(":")
    return bool(parts.scheme) and not (
        parts.fragment or "@" in parts.path + parts.query or "@" in address or user.count("@") > 1
    )


def _is_in_shape(url: str, parts: SplitResult) -> bool:
    """False where a password may stand without its ``@``, as in ``user:password/db``."""
    places = parts.netloc.rpartition("@")[2].split(",")
    return (
        "://" in url
        and all(PLACE.fullmatch(place) and "%40" not in place for place in places)
        and bool(_PATH.fullmatch(parts.path))
    )


def _mask_address(netloc: str) -> str:
    credentials, sign, address = netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{user}{colon and ':' + HIDDEN}{sign}{address}"


def _mask_option(name: str, value: str) -> str:
    if name not in SHOWN_OPTIONS:
        return HIDDEN
    if "://" in value:
        return mask_url(value)
    return HIDDEN if ":" in value else value
