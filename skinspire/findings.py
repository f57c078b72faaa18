"""What is wrong with where settings come from: found while they are read, told by the checks."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

BLOCKING = frozenset({"dbops.E003", "dbops.E007", "dbops.E008"})
"""After these a setting may mean something else than was written: no database is known then."""
_TOO_WIDE = stat.S_IRWXO | stat.S_IWGRP


@dataclass(frozen=True)
class Finding:
    """One problem, told by names and line numbers; never by a value."""

    id: str
    """Of the system check that tells it: ``dbops.E…`` or ``dbops.W…``."""
    sentence: str


findings: list[Finding] = []
"""Those of this process, from the moment its settings were read."""


def first_blocking() -> tuple[str, str] | None:
    """(check id, sentence) of the first one after which nothing may be done."""
    return next(((it.id, it.sentence) for it in findings if it.id in BLOCKING), None)


def is_too_open(path: Path) -> bool:
    """True for a file that everybody may read, or the group may write; reading by the group alone
    is how services are given theirs."""
    try:
        return bool(path.stat().st_mode & _TOO_WIDE)
    except OSError:
        return False
