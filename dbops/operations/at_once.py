"""Asking several servers at once, and waiting for none longer than for the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from dbops.exceptions import ConnectionFailedError, DbopsError
from dbops.postgres.connection import first_line

Answer = TypeVar("Answer")
PATIENCE = 3.0
"""Seconds after which a server that has not answered is shown as unreachable."""


def answers_within(
    seconds: float, questions: Mapping[str, Callable[[], Answer]]
) -> dict[str, Answer]:
    """The answers that came in time, by the question's name.

    The limit is kept by the clock and not by the driver, whose own one knows neither a slow name
    server nor a locked catalogue.
    """
    found: dict[str, Answer] = {}

    def ask(name: str) -> None:
        found[name] = questions[name]()

    threads = [threading.Thread(target=ask, args=[name], daemon=True) for name in questions]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def silence(seconds: float) -> str:
    """Why a server is unreachable that did not answer in time."""
    return f"No answer within {seconds:g} seconds."


def why_unreachable(error: DbopsError) -> str:
    """Why one is that did answer, for everyone to see.

    The driver's own line where there is one: ours would name the role.
    """
    if isinstance(error, ConnectionFailedError):
        return first_line(error.__cause__ or error)
    return str(error)
