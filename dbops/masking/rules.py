"""The rules file: which strategy each column gets. Read and checked without a database."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dbops.exceptions import MaskingError

DEFAULT_DAYS = 180
_MOST_DAYS = 3650
# What each strategy may be told, and which words are allowed there: None where any value is.
STRATEGIES: Mapping[str, Mapping[str, tuple[str, ...] | None]] = {
    "keep": {},
    "null": {},
    "constant": {"value": None},
    "hash": {},
    "token": {},
    "name": {"part": ("full", "first", "last")},
    "email": {},
    "phone": {},
    "address": {"part": ("full", "street", "city", "postcode")},
    "free_text": {},
    "date_shift": {"person": None, "days": None},
    "jsonb": {"paths": None},
}
_ROWS = ("leave out", "keep")
_SEGMENT = re.compile(r'(?:"([^"]+)"|([^."\[\]]+))?((?:\[\])*)(?:\.|$)')
ARRAY = "[]"
"""The step of a path that means every element of an array."""


@dataclass(frozen=True)
class Rule:
    """What happens to one column, or to one path inside a document."""

    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[tuple[tuple[str, ...], Rule], ...] = ()
    """Of ``jsonb``: (steps of the path, its rule)."""


@dataclass(frozen=True)
class Section:
    """The rules of one table, or of all whose "schema.table" matches a pattern."""

    columns: Mapping[str, Rule]
    rows: str = ""


@dataclass(frozen=True)
class Rules:
    """Everything the file says."""

    sections: Mapping[str, Section]
    safe_types: frozenset[str] = frozenset()
    safe_columns: tuple[str, ...] = ()
    keep_large_objects: bool = False

    def rule(self, table: str, column: str) -> Rule | None:
        """The rule of a column: that of the table's own section, or else of the first pattern in
        the file that names the column."""
        return next(
            (found.columns[column] for found in self._matching(table) if column in found.columns),
            None,
        )

    def leaves_out(self, table: str) -> bool:
        """Whether the rows of a table stay behind."""
        said = next((found.rows for found in self._matching(table) if found.rows), "keep")
        return said == "leave out"

    def considers_safe(self, table: str, column: str, type_name: str) -> bool:
        """Whether ``[safe]`` names the type or the column."""
        full = f"{table}.{column}"
        return type_name in self.safe_types or any(
            fnmatchcase(full, pattern) for pattern in self.safe_columns
        )

    def _matching(self, table: str) -> list[Section]:
        exact = [self.sections[table]] if table in self.sections else []
        return exact + [
            found
            for pattern, found in self.sections.items()
            if pattern != table and fnmatchcase(table, pattern)
        ]


def load_rules(path: Path) -> Rules:
    """Read a rules file.

    Raises:
        MaskingError: it cannot be read, or says something that means nothing; the message names
            the file, the table and the column, and what is allowed there.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MaskingError(
            f"The masking rules {path} cannot be read: {error.strerror}.",
            hint="Name the file in DBOPS_MASKING_FILE",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MaskingError(
            f"{path} is no valid TOML: {error}.", hint="See docs/masking.md"
        ) from error
    try:
        return _rules(content)
    except _Odd as error:
        raise MaskingError(f"{path}: {error}", hint="See docs/masking.md") from error


class _Odd(Exception):
    """What is wrong and what is allowed; :func:`load_rules` names the file."""


def _rules(content: dict[str, Any]) -> Rules:
    safe = _plain_section(content, "safe", {"types": list, "columns": list})
    objects = _plain_section(content, "large_objects", {"keep": bool})
    for word in (*safe.get("types", []), *safe.get("columns", [])):
        if not isinstance(word, str):
            raise _Odd(f"[safe] holds {word!r}; types and columns are lists of strings.")
    return Rules(
        {name: _section(name, section) for name, section in content.items()},
        frozenset(safe.get("types", [])),
        tuple(safe.get("columns", [])),
        bool(objects.get("keep", False)),
    )


def _plain_section(
    content: dict[str, Any], name: str, allowed: Mapping[str, type]
) -> dict[str, Any]:
    """Take a section that is no table out of the content."""
    section = content.pop(name, {})
    fits = isinstance(section, dict) and all(
        key in allowed and isinstance(value, allowed[key]) for key, value in section.items()
    )
    if not fits:
        words = ", ".join(f"{key} ({kind.__name__})" for key, kind in allowed.items())
        raise _Odd(f"[{name}] may hold {words} and nothing else.")
    return dict(section)


def _section(name: str, content: Any) -> Section:
    if not isinstance(content, dict) or "." not in name:
        raise _Odd(f'[{name}] is no table: write its section as ["schema.table"], in quotes.')
    columns = dict(content)
    rows = columns.pop("rows", "") if isinstance(columns.get("rows"), str) else ""
    if rows and rows not in _ROWS:
        raise _Odd(
            f'["{name}"]: rows is {rows!r}; allowed are {_listed(_ROWS)} '
            '(for a column called rows: { strategy = "…" }).'
        )
    return Section({key: _rule(f"{name}.{key}", value) for key, value in columns.items()}, rows)


def _rule(where: str, content: Any) -> Rule:
    """A strategy by its name alone, or with options."""
    options = {"strategy": content} if isinstance(content, str) else content
    if not isinstance(options, dict) or not isinstance(options.get("strategy"), str):
        raise _Odd(f'{where}: write the strategy in quotes, or {{ strategy = "…", … }}.')
    options = dict(options)
    strategy = options.pop("strategy")
    if strategy not in STRATEGIES:
        raise _Odd(f"{where}: there is no strategy {strategy!r}; there are {_listed(STRATEGIES)}.")
    for option, value in options.items():
        _check_option(where, strategy, option, value)
    if strategy == "constant" and "value" not in options:
        raise _Odd(f"{where}: constant needs its value.")
    if strategy != "jsonb":
        return Rule(strategy, options)
    paths: Any = options.get("paths", {})
    return Rule(strategy, {}, _paths(where, paths))


def _check_option(where: str, strategy: str, option: str, value: Any) -> None:
    allowed = STRATEGIES[strategy]
    if option not in allowed:
        may = f"may have {_listed(allowed)}" if allowed else "has no options"
        raise _Odd(f"{where}: {strategy} has no option {option!r}; it {may}.")
    words = allowed[option]
    if words is not None and value not in words:
        raise _Odd(f"{where}: {option} is {value!r}; allowed are {_listed(words)}.")
    if option == "days" and not (type(value) is int and 1 <= value <= _MOST_DAYS):
        raise _Odd(f"{where}: days is {value!r}; allowed are whole numbers from 1 to {_MOST_DAYS}.")
    if option == "person" and not (isinstance(value, str) and value):
        raise _Odd(f"{where}: person is {value!r}; it is the name of a column of the same table.")
    if option == "paths" and not isinstance(value, dict):
        raise _Odd(
            f'{where}: paths is {value!r}; it is a table like {{ "contact.name" = "name" }}.'
        )
    if option == "value" and "\0" in str(value):
        raise _Odd(f"{where}: PostgreSQL stores no NUL character.")


def _paths(where: str, content: dict[str, Any]) -> tuple[tuple[tuple[str, ...], Rule], ...]:
    found: dict[tuple[str, ...], Rule] = {}
    for path, value in content.items():
        steps = _steps(where, path)
        rule = _rule(f"{where} at {path}", value)
        if rule.strategy == "jsonb":
            raise _Odd(f"{where} at {path}: write the whole path instead of jsonb inside jsonb.")
        for other in found:
            if other[: len(steps)] == steps[: len(other)]:
                raise _Odd(f"{where} at {path}: another path says what happens to it already.")
        found[steps] = rule
    return tuple(found.items())


def _steps(where: str, path: str) -> tuple[str, ...]:
    """``visits[].note`` as ("visits", "[]", "note")."""
    steps: list[str] = []
    position = 0
    while position < len(path):
        match = _SEGMENT.match(path, position)
        if match is None or not match[0].strip(".") or "\0" in path:
            break
        steps += [name for name in (match[1] or match[2],) if name]
        steps += [ARRAY] * (len(match[3]) // 2)
        position = match.end()
    if not steps or position < len(path) or path.endswith("."):
        raise _Odd(
            f'{where}: {path!r} is no path; paths are like contact.name, visits[].note or "a.b".c.'
        )
    return tuple(steps)


def _listed(words: Any) -> str:
    return ", ".join(words)
