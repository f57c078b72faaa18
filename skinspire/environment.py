"""Which environment is active, and what its names are.

Order: ``SKINSPIRE_ENV``, the file ``switch_env`` writes, ``DJANGO_ENV``, then ``dev``. An unknown
name is an error, never "dev": the earlier system turned typing errors into the wrong database.
"""

from __future__ import annotations

import os
import secrets
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
    for source, value in sources(home, os.environ if variables is None else variables):
        if value:
            return ActiveEnvironment(normalize_environment(value), source)
    return ActiveEnvironment("dev", "default")


def sources(home: Path, variables: Mapping[str, str]) -> list[tuple[str, str]]:
    """(source, what it says) in the order of precedence; "" where it says nothing."""
    found = (
        ("SKINSPIRE_ENV", variables.get("SKINSPIRE_ENV", "")),
        (str(home / FILE_NAME), _read(home / FILE_NAME)),
        ("DJANGO_ENV", variables.get("DJANGO_ENV", "")),
    )
    return [(source, value.strip()) for source, value in found]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return ""


class NewFile:
    """The file ``switch_env`` writes: whole on the disk first, then put in place in one step.

    What is not put in place is gone again at the end of the ``with`` block.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._home, self._name = home, name
        self._partial = home / f".{FILE_NAME}-{secrets.token_hex(6)}"

    def __enter__(self) -> NewFile:
        self._home.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with open(descriptor, "w") as file:
                file.write(f"{self._name}\n")
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            self._partial.unlink()
            raise
        return self

    def put_in_place(self) -> None:
        """From here on it decides."""
        os.replace(self._partial, self._home / FILE_NAME)
        directory = os.open(self._home, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def __exit__(self, *_: object) -> None:
        self._partial.unlink(missing_ok=True)
