"""Values as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import humanize
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from dbops.models import Backup
from dbops.wording import counted

_BYTES = {"size", "bytes", "freed"}
_BACKUPS = {"name", "saved_as"}


def bytes_text(count: int) -> str:
    """``12.3 MiB``."""
    return humanize.naturalsize(count, binary=True)


def count_text(count: int) -> str:
    """``12,345``."""
    return humanize.intcomma(count)


def age(moment: datetime) -> str:
    """``3 hours ago``."""
    return humanize.naturaltime(timezone.now() - moment)


def moment_text(moment: datetime) -> str:
    """``3 hours ago (21 November 2026, 04:12 UTC)``."""
    return f"{age(moment)} ({moment:%d %B %Y, %H:%M} UTC)"


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


def proof_text(backup: Backup | None) -> str:
    """``3 hours ago: restored aside and compared``; "" where nothing was ever proven."""
    if backup is None or backup.verified_at is None:
        return ""
    how = backup.get_verified_how_display()
    return age(backup.verified_at) + (f": {how}" if how else "")


def holdings_text(backup: Backup) -> str:
    """What a backup holds, and how large its file is."""
    return (
        f"{counted(backup.rows, 'row', write=count_text)} in "
        f"{counted(backup.tables, 'table', write=count_text)}, "
        f"{bytes_text(backup.size)} compressed"
    )


def backup_link(name: str) -> SafeString:
    """A backup's name, leading to its page."""
    url = reverse("admin:dbops_backup_change", args=[quote(name)])
    return format_html('<a href="{}">{}</a>', url, name)


_ONLY_IF_ANY = {"saved_as", "defused", "left_out"}


def result_rows(result: Mapping[str, Any], *, sees_backups: bool = False) -> list[tuple[str, str]]:
    """An operation's result as (name, value); backups are links for whoever sees them."""
    rows: list[tuple[str, str]] = []
    for key, value in result.items():
        if key == "checks":
            rows += [(check["name"].capitalize(), _verdict(check)) for check in value]
        elif key in _BACKUPS and value and sees_backups:
            rows.append((_label(key), backup_link(value)))
        elif value or key not in _ONLY_IF_ANY:
            rows.append((_label(key), _value(key, value)))
    return rows


def _label(key: str) -> str:
    words = "kept_as_backup" if key == "saved_as" else key.removesuffix("_ms")
    return words.replace("_", " ").capitalize()


def _verdict(check: Mapping[str, Any]) -> SafeString:
    word = "good" if check["ok"] else "bad"
    sign = "✓ right" if check["ok"] else "✗ wrong"
    return format_html('<strong class="{}">{}</strong>: {}', word, sign, check["value"])


def _value(key: str, value: Any) -> str:
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "kept":
        return _folded(f"{it['name']} ({', '.join(it['reasons'])})" for it in value)
    if key == "deleted":
        return _folded(value)
    if isinstance(value, dict):
        return _folded(f"{name} ({reason})" for name, reason in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, (int, float)):
        return _number(key, value)
    return str(value)


def _folded(lines: Iterable[str]) -> SafeString:
    """How many, and each on its own line once it is opened."""
    items = [(line,) for line in lines]
    listed = format_html_join("", "<li>{}</li>", items)
    return format_html(
        '<details class="more"><summary>{}</summary><ul class="items">{}</ul></details>',
        len(items),
        listed,
    )


def _number(key: str, value: float) -> str:
    if key in _BYTES:
        return bytes_text(round(value))
    if key.endswith("_ms"):
        return f"{value:g} ms"
    return count_text(value)  # type: ignore[arg-type]
