"""How many sign in at once: so few that a flood of them leaves threads to those who are in already.

Each process hashes one password at a time (``accounts/hashers.py``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

RETRY_SECONDS = 1
_ROOM = 2
"""In each process: one whose password is hashed, and one who waits."""
_room = threading.BoundedSemaphore(_ROOM)


class Crowded(Exception):
    """Too many sign in at this moment; whoever asks again a little later gets in."""


@contextmanager
def one_of_few() -> Iterator[None]:
    """A place for one sign-in.

    Raises:
        Crowded: there is none; nobody was kept waiting to be told.
    """
    if not _room.acquire(blocking=False):
        raise Crowded
    try:
        yield
    finally:
        _room.release()
