"""Trying the features out, one after another, on an installation of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from django.conf import settings

from dbops.features import (  # noqa: F401  (each registers its features)
    backups,
    configuration,
    copies,
    looking,
    schema,
    switching,
    triggering,
)
from dbops.features.feature import CATEGORIES, FEATURES, Tried, try_out
from dbops.features.scratch import scratch_installation
from dbops.operations.context import OperationContext
from dbops.watch import signals_cancel

Listener = Callable[[Tried], None]


def rehearse_features(
    environment: str, categories: Collection[str], listener: Listener
) -> list[Tried]:
    """Try the features of these categories on the server of ``environment``; nothing is left.

    Args:
        listener: hears of each feature as soon as it was tried.

    Raises:
        ConnectionFailedError: the server does not answer.
        PrivilegeError: the role may not create the databases the features are tried on.
    """
    wanted = [it for it in FEATURES if it.category in categories]
    wanted.sort(key=lambda it: CATEGORIES.index(it.category))
    found = []
    # Signals unwind, so that nothing is left.
    stopping = signals_cancel(OperationContext(""))
    with stopping, scratch_installation(environment) as scratch:
        for each in wanted:
            tried = try_out(each, scratch)
            listener(tried)
            found.append(tried)
    return found


def write_log(environment: str, found: list[Tried]) -> Path:
    """Keep what came of it in ``SKINSPIRE_HOME/rehearsals``; the file."""
    began = datetime.now(UTC)
    directory = Path(settings.SKINSPIRE_HOME) / "rehearsals"
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"features-{environment}-{began:%Y%m%dT%H%M%SZ}.log"
    lines = [f"{began.isoformat(timespec='seconds')} features on the server of {environment}"]
    for it in found:
        mark = "passed" if it.passed else "FAILED"
        line = f"{mark} {it.category} {it.how} {it.seconds:.2f} s: {it.title}"
        lines.append(f"{line}: {it.message}" if it.message else line)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
