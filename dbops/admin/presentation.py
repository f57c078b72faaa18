"""Values as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import humanize
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

_BYTES = {"size", "bytes"}


def bytes_text(count: int) -> str:
    """``12.3 MiB``."""
    return humanize.naturalsize(count, binary=True)


def count_text(count: int) -> str:
    """``12,345``."""
    return humanize.intcomma(count)


def age(moment: datetime) -> str:
    """``3 hours ago``."""
    return humanize.naturaltime(timezone.now() - moment)


def seconds_text(seconds: float | None) -> str:
    """``0.4 s``, ``2 minutes and 5 seconds``; "" where it has not ended."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return humanize.precisedelta(seconds, format="%0.0f")


def pill(word: str, label: str = "") -> SafeString:
    """A status or an environment, coloured and in words."""
    return format_html('<span class="pill pill-{}">{}</span>', word, label or word)


def result_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An operation's result as (name, value)."""
    return [
        (key.removesuffix("_ms").replace("_", " ").capitalize(), _value(key, value))
        for key, value in result.items()
    ]


def _value(key: str, value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, (int, float)):
        return _number(key, value)
    return str(value)


def _number(key: str, value: float) -> str:
    if key in _BYTES:
        return bytes_text(round(value))
    if key.endswith("_ms"):
        return f"{value:g} ms"
    return count_text(value)  # type: ignore[arg-type]
