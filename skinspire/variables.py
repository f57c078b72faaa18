"""Values from the process environment and ``.env``: an odd one is reported, never guessed at."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import environ

_WORDS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip
problems: list[str] = []
"""Sentences on values that could not be understood; the system check dbops.E004 shows them."""


def read_flag(env: environ.Env, name: str, default: bool) -> bool:
    """A yes or no. An odd word counts as the default and is reported."""
    value = str(env.str(name, default="")).strip().lower()
    if not value:
        return default
    if value not in _WORDS:
        problems.append(f"{name} must be true or false.")
    return _WORDS.get(value, default)


def read_number(env: environ.Env, name: str, default: int) -> int:
    """A whole number of zero or more. Anything else counts as the default and is reported."""
    value = str(env.str(name, default="")).strip()
    if value and not value.isdecimal():
        problems.append(f"{name} must be a whole number.")
    return int(value) if value.isdecimal() else default


def read_counts(env: environ.Env, name: str, default: dict[str, int]) -> dict[str, int]:
    """Pairs like ``daily=7`` separated by commas; a word left out keeps its number in ``default``.
    Anything else counts as the default and is reported."""
    pairs = [pair.replace(" ", "").split("=", 1) for pair in read_list(env, name, [])]
    counts = {pair[0]: pair[-1] for pair in pairs}
    understood = counts.keys() <= default.keys() and all(map(str.isdecimal, counts.values()))
    if not understood or len(counts) < len(pairs):
        example = ",".join(f"{word}={number}" for word, number in default.items())
        problems.append(f"{name} must be like {example}.")
        return default
    return default | {word: int(number) for word, number in counts.items()}


def read_list(env: environ.Env, name: str, default: list[str]) -> list[str]:
    """Values separated by commas or line breaks; an empty variable is the default."""
    values = [value.strip() for value in re.split(r"[,\n]", str(env.str(name, default="")))]
    return [value for value in values if value] or default


def read_secret(env: environ.Env, name: str) -> str:
    """``name`` from the environment, or the content of the file ``<name>_FILE`` points at.

    Raises:
        OSError: the file cannot be read.
    """
    file = env.str(f"{name}_FILE", default="")
    if file:
        return Path(file).read_text().strip()
    return str(env.str(name, default=""))


def kept_secret(path: Path) -> str:
    """A random secret made once and kept in a 0600 file, for environments that were given none."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    try:
        os.link(partial, path)  # of several first starts at once one wins, and all read its secret
    except FileExistsError:
        pass
    finally:
        partial.unlink()
    return path.read_text().strip()
