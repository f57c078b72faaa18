"""Values from the process environment and ``.env``: an odd one is reported, never guessed at."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from skinspire.dotenv import read_dotenv
from skinspire.findings import Finding, findings, is_too_open
from skinspire.known import NAMES, likely_meant

_WORDS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip
problems: list[str] = []
"""Sentences on values that could not be understood; the system check dbops.E004 shows them."""


class Variables(environ.Env):
    """Those of the process, and behind them those of ``.env``, at the moment they were loaded.

    They stay out of ``os.environ``, so that no child inherits a secret that it can read by itself.
    """

    ENVIRON: dict[str, str] = {}
    file: Path | None = None
    """The ``.env`` that was read; None where there is none."""
    lines: dict[str, int] = {}
    """The line of ``.env`` each variable stands in that was taken from there."""
    read: dict[str, str] = {}
    """Secrets as they were read, by the variable they stand for."""

    def load(self, default: Path) -> None:
        """Take the variables of this process, and those of ``SKINSPIRE_DOTENV`` or ``default``."""
        named = os.environ.get("SKINSPIRE_DOTENV", "")
        path = Path(named) if named else default
        dotenv = read_dotenv(path, required=bool(named))
        findings.extend(dotenv.findings)
        self.file = path if path.exists() else None
        self.lines = {key: line for key, line in dotenv.keys.items() if key not in os.environ}
        type(self).ENVIRON = dict(os.environ)
        self.read_env(io.StringIO(dotenv.text))
        # What is not ours is for the libraries: AWS's, libpq's.
        for key in self.lines.keys() - NAMES:
            if key in self.ENVIRON:
                os.environ[key] = self.ENVIRON[key]
        _report_typing_errors(likely_meant(self.lines, anything=True), "in .env")
        _report_typing_errors(likely_meant(os.environ, anything=False), "of the process")

    def origin(self, name: str) -> str:
        """Where the value of a variable comes from: process, ``.env``, a file, or the default."""
        if self.ENVIRON.get(name):
            return f".env, line {self.lines[name]}" if name in self.lines else "process"
        if self.ENVIRON.get(f"{name}_FILE"):
            return f"file named by {name}_FILE ({self.origin(f'{name}_FILE')})"
        return "default"


env = Variables()
"""Those of this process, loaded when its settings are read."""


def _report_typing_errors(pairs: Iterable[tuple[str, str]], where: str) -> None:
    for name, near in pairs:
        sentence = f"Nothing reads {name} {where}; did you mean {near}?"
        if not any(it.sentence.startswith(f"Nothing reads {name} ") for it in findings):
            findings.append(Finding("dbops.W014", sentence))


def read_text(env: environ.Env, name: str) -> str:
    """The value as it was given; "" where there is none.

    Not by ``env.str``, which takes what begins with ``$`` for the name of another variable.
    """
    return str(env.ENVIRON.get(name, ""))


def read_flag(env: environ.Env, name: str, default: bool) -> bool:
    """A yes or no. An odd word counts as the default and is reported."""
    value = read_text(env, name).strip().lower()
    if not value:
        return default
    if value not in _WORDS:
        problems.append(f"{name} must be true or false.")
    return _WORDS.get(value, default)


def read_number(env: environ.Env, name: str, default: int) -> int:
    """A whole number of zero or more. Anything else counts as the default and is reported."""
    value = read_text(env, name).strip()
    if value and not value.isdecimal():
        problems.append(f"{name} must be a whole number.")
    return int(value) if value.isdecimal() else default


def read_word(env: environ.Env, name: str, words: tuple[str, ...]) -> str:
    """One of ``words``. Anything else counts as the first of them and is reported."""
    value = read_text(env, name).strip().lower() or words[0]
    if value not in words:
        problems.append(f"{name} must be one of {', '.join(words)}.")
    return value if value in words else words[0]


def mail_settings(env: environ.Env, default: str) -> dict[str, Any]:
    """Django's settings for ``EMAIL_URL``. One that is not understood counts as ``default``, and is
    reported without being told: it may hold a password."""
    found: dict[str, Any] = {}
    try:
        found = environ.Env.email_url_config(read_secret(env, "EMAIL_URL") or default)
    except (KeyError, ValueError, ImproperlyConfigured):
        problems.append("EMAIL_URL must be like smtp+tls://user:password@host:587.")
        found = environ.Env.email_url_config(default)
    options = found.pop("OPTIONS", {})
    wanted = {name: value for name, value in found.items() if value is not None}
    return {"EMAIL_TIMEOUT": 10} | wanted | {f"EMAIL_{name}": it for name, it in options.items()}


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
    return split_list(read_text(env, name)) or default


def read_networks(env: environ.Env, name: str, default: list[str]) -> list[str]:
    """Addresses and networks like ``10.0.0.0/8``, and the word unix. Others are left out and
    reported: of a proxy that is not known, nothing is believed."""
    networks = []
    for value in read_list(env, name, default):
        try:
            networks.append(value if value == "unix" else str(ip_network(value, strict=False)))
        except ValueError:
            problems.append(f"{name} must hold addresses, networks like 10.0.0.0/8, or unix.")
    return networks


def split_list(text: str) -> list[str]:
    """Values separated by commas or line breaks."""
    return [value.strip() for value in re.split(r"[,\n]", text) if value.strip()]


def read_secret(env: environ.Env, name: str) -> str:
    """``name`` from the environment, or the content of the file ``<name>_FILE`` names.

    What is wrong with the file is reported, and "" returned: :func:`findings.first_blocking` then
    says that nothing may be done.
    """
    text, file = read_text(env, name), read_text(env, f"{name}_FILE")
    if text and file:
        findings.append(Finding("dbops.E008", f"{name} and {name}_FILE are both set."))
        return ""
    if file:
        text = _content(name, Path(file))
    if isinstance(env, Variables):
        env.read[name] = text
    return text


def _content(name: str, file: Path) -> str:
    """The secret in a file. The path is not told: a secret may stand there by mistake."""
    try:
        text = file.read_text(encoding="utf-8").strip()
        problem = "" if text else "is empty"
    except UnicodeDecodeError:
        text, problem = "", "is not written in UTF-8"
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        text = ""
        problem = f"cannot be read: {getattr(error, 'strerror', None) or 'no path'}"
    if problem:
        findings.append(Finding("dbops.E003", f"The file named by {name}_FILE {problem}."))
    elif is_too_open(file):
        sentence = f"The file named by {name}_FILE may be read or written by others."
        findings.append(Finding("dbops.W009", sentence))
    return text


def known_secret(path: Path) -> str:
    """The secret :func:`kept_secret` made, or ""."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


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
