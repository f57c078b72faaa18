"""Words for numbers of things, in whatever people read."""

from __future__ import annotations

from collections.abc import Callable


def counted(count: int, one: str, many: str = "", write: Callable[[int], str] = str) -> str:
    """``1 row``, ``2 rows``.

    Args:
        one: the words for a single thing, as "table is gone".
        many: those for none or several; "" for ``one`` with an s.
        write: how the number is written.
    """
    return f"{write(count)} {one if count == 1 else many or one + 's'}"


def grouped(count: int) -> str:
    """``10,000``."""
    return f"{count:,}"
