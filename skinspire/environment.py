"""Which environment is active, and what its names are.

Order: ``SKINSPIRE_ENV``, the file ``switch_env`` writes, ``DJANGO_ENV``, then ``dev``. An unknown
name is an error, never "dev": the earlier system turned typing errors into the wrong database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = ("dev", "test", "prod")
"""From the least to the most protected."""
FILE_NAME = "environment"
_ALIASES = {
    "dev": "dev", "develop": "dev", "development": "dev", "local": "dev",
    "test": "test", "testing": "test", "tests": "test", "qa": "test",
    "prod": "prod", "production": "prod", "live": "prod",
}  # fmt: skip


class UnknownEnvironment(ValueError):
    """A name that is none of dev, test and prod in any spelling."""


@dataclass(frozen=True)
class ActiveEnvironment:
    """The environment and where its name was found."""

    name: str
    source: str


def normalize_environment(name: str) -> str:
    """``dev``, ``test`` or ``prod`` for any accepted spelling.

    Raises:
        UnknownEnvironment: for every other name.
    """
    try:
        return _ALIASES[name.strip().lower()]
    except KeyError:
        shown = name[:40]
        raise UnknownEnvironment(
            f"Unknown environment {shown!r}: it is one of {', '.join(ENVIRONMENTS)}."
        ) from None


def discover_environment(
    home: Path, variables: Mapping[str, str] | None = None
) -> ActiveEnvironment:
    """The active environment.

    Args:
        home: ``SKINSPIRE_HOME``, where ``switch_env`` keeps its file.
        variables: the process environment unless given.

    Raises:
        UnknownEnvironment: the first source that says anything says something unknown.
    """
    variables = os.environ if variables is None else variables
    for source, value in (
        ("SKINSPIRE_ENV", variables.get("SKINSPIRE_ENV", "")),
        (str(home / FILE_NAME), _read(home / FILE_NAME)),
        ("DJANGO_ENV", variables.get("DJANGO_ENV", "")),
    ):
        if value.strip():
            return ActiveEnvironment(normalize_environment(value), source)
    return ActiveEnvironment("dev", "default")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
