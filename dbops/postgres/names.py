"""Names as SQL has them, as somebody typed them, and as they are shown."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

_SHOWN = 80
"""Characters of a name that is none; the longest that is one has 63 bytes."""

_SIMPLE = re.compile(r"[a-z_][a-z0-9_]*\Z")


def quoted_name(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def quoted(table: str) -> str:
    """A "schema.table" as SQL."""
    return ".".join(quoted_name(part) for part in table.split(".", 1))


def qualified(*names: str) -> str:
    """The names joined by dots, quoted where they need it, whatever the server's version."""
    return ".".join(it if _SIMPLE.match(it) else quoted_name(it) for it in names)


def visible(text: str) -> str:
    """Text out of a database, or typed, so that it cannot command a terminal or turn the direction
    of what stands beside it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str) -> str:
    """The same, short enough for a sentence."""
    if not text:
        return '""'
    return visible(text) if len(text) <= _SHOWN else f"{visible(text[:_SHOWN])}…"


def meant(wanted: str, known: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those (schema, name) that ``wanted`` can mean: quoted as SQL has it, else ``schema.name``
    wherever the dot that parts them is, else the bare name. The first that finds any counts."""
    forms = (
        lambda it: qualified(*it),
        lambda it: f"{it[0]}.{it[1]}",
        lambda it: it[1],
    )
    for form in forms:
        if found := [each for each in known if form(each) == wanted]:
            return found
    return []


def near(wanted: str, known: Sequence[str]) -> list[str]:
    """Up to three of ``known`` that look like it."""
    lowered = {name.lower(): name for name in known}
    found = difflib.get_close_matches(wanted[:_SHOWN].lower(), lowered, n=3, cutoff=0.6)
    return [lowered[name] for name in found]
