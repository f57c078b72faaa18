"""A strict look at ``.env`` before django-environ reads it.

django-environ passes over lines it does not understand, and logs them with their values. Here each
is named by its number and its key, and only the lines that mean one thing are handed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from skinspire.findings import Finding

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# As django-environ reads a line: nothing before the name, nothing around the sign.
_ASSIGNMENT = re.compile(r"(?:export )?([A-Za-z_][A-Za-z_0-9]*)=(.*)\Z", re.DOTALL)
_NEARLY = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z_0-9]{0,60})\s*=")
_QUOTES = "'\""


@dataclass
class Dotenv:
    """What a file of variables says."""

    text: str = ""
    """The assignments that could be understood."""
    keys: dict[str, int] = field(default_factory=dict)
    """The line of each."""
    findings: list[Finding] = field(default_factory=list)


def read_dotenv(path: Path, *, required: bool = False) -> Dotenv:
    """Read and judge a file. A missing one is empty, unless it was asked for by name."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        if not required and not path.is_symlink():
            return Dotenv()
        return _unreadable(error)
    except OSError as error:
        return _unreadable(error)
    return scan(content)


def _unreadable(error: OSError) -> Dotenv:
    sentence = f"The file of variables (.env) cannot be read: {error.strerror}."
    return Dotenv(findings=[Finding("dbops.E007", sentence)])


def scan(content: bytes) -> Dotenv:
    """Judge the content of a ``.env``."""
    found = Dotenv()
    if content.startswith(_BYTE_ORDER_MARK):
        content = content.removeprefix(_BYTE_ORDER_MARK)
        found.findings.append(_odd("line 1 begins with a byte order mark, which is left out"))
    if b"\r" in content:
        ends = "lines end as on Windows (CRLF); they are read as if they did not"
        found.findings.append(_odd(ends))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        found.findings.append(_wrong(f"line {line} is not written in UTF-8"))
        return found
    # universal newlines first, then every line break Python knows: as django-environ reads it.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").splitlines()
    kept = [line for number, line in enumerate(lines, 1) if _is_assignment(found, number, line)]
    found.text = "\n".join(kept)
    return found


def _is_assignment(found: Dotenv, number: int, line: str) -> bool:
    """Whether to hand the line on; what is wrong with it is noted."""
    if not line.strip() or line.lstrip().startswith("#"):
        return False
    match = _ASSIGNMENT.match(line)
    if not match:
        nearly = _NEARLY.match(line)
        what = f" ({nearly[1]})" if nearly else ""
        found.findings.append(_wrong(f"line {number}{what} is no assignment like NAME=value"))
        return False
    key, value = match.groups()
    errors = [_wrong(f"line {number} ({key}) {it}") for it in _errors(found, key, value)]
    found.findings += errors or [_odd(f"line {number} ({key}) {it}") for it in _oddities(value)]
    found.keys.setdefault(key, number)
    return not errors


def _errors(found: Dotenv, key: str, value: str) -> Iterator[str]:
    if key in found.keys:
        yield f"sets again what line {found.keys[key]} sets"
    if "\0" in value:
        yield "holds a NUL character"
    opening, closing = value[:1], value[-1:]
    quoted = opening in _QUOTES or closing in _QUOTES
    if value and quoted and (opening != closing or len(value) == 1):
        yield "has a quotation mark without its other half"


def _oddities(value: str) -> Iterator[str]:
    if value != value.strip():
        yield "has blanks around its value, which belong to it"
    if re.search(r"\s#", value) and value[:1] not in _QUOTES:
        yield "seems to end in a comment, which belongs to its value"


def _wrong(what: str) -> Finding:
    return Finding("dbops.E007", f".env: {what}.")


def _odd(what: str) -> Finding:
    return Finding("dbops.W007", f".env: {what}.")
