"""What a feature is, and trying one out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dbops.exceptions import DbopsError, as_dbops_error
from dbops.features.scratch import Scratch

CATEGORIES = ("config", "switch-env", "backup", "copy", "triggers", "inspect-db", "schema")
"""In the order in which they are tried; each is an option of the command."""
FEATURES: list[Feature] = []
"""All of them, in the order of their files."""


class FeatureFailed(AssertionError):
    """Something did not do what it promises; the message says what."""


@dataclass(frozen=True)
class Feature:
    """One thing that is tried out, by calling the operation or through its command."""

    category: str
    title: str
    how: str
    """``direct`` or ``command``."""
    attempt: Callable[[Scratch], None]


@dataclass(frozen=True)
class Tried:
    """How it went."""

    category: str
    title: str
    how: str
    passed: bool
    seconds: float
    message: str = ""
    """Why it did not pass."""


def feature(
    category: str, title: str, how: str
) -> Callable[[Callable[[Scratch], None]], Callable[[Scratch], None]]:
    """Register a function that raises where the feature does not hold."""
    assert category in CATEGORIES

    def register(attempt: Callable[[Scratch], None]) -> Callable[[Scratch], None]:
        FEATURES.append(Feature(category, title, how, attempt))
        return attempt

    return register


def expect(holds: object, otherwise: str) -> None:
    """Raise FeatureFailed, with the sentence ``otherwise``, unless it holds."""
    if not holds:
        raise FeatureFailed(otherwise)


def expect_refused(kind: type[DbopsError], attempt: Callable[[], object]) -> None:
    """Raise FeatureFailed unless ``attempt`` is refused by an error of that kind."""
    try:
        attempt()
    except kind:
        return
    raise FeatureFailed(f"It was not refused ({kind.__name__} was expected).")


def try_out(wanted: Feature, scratch: Scratch) -> Tried:
    """Try one feature; whatever it raises is why it did not pass."""
    began = time.monotonic()
    message = ""
    try:
        wanted.attempt(scratch)
    except FeatureFailed as error:
        message = str(error)
    except Exception as error:
        message = str(as_dbops_error(error))
    seconds = round(time.monotonic() - began, 3)
    return Tried(wanted.category, wanted.title, wanted.how, not message, seconds, message)
