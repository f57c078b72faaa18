"""Definitions as the server writes them, brought into one form: what means the same reads the same.

The server does not keep the text of a definition; it writes it anew from what it has parsed, and
what it writes depends on its version and on whether the object came out of a dump.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Reserved to some degree in some of PostgreSQL 15 to 18 only, and so quoted by some only.
_NEWLY_QUOTED = re.compile(
    '"(json(?:_(?:array|arrayagg|exists|object|objectagg|query|scalar|serialize|table|value))?'
    '|merge_action|system_user)"'
)
_STRING = r"'(?:[^']|'')*'"
_ELEMENT = re.compile(rf'E?{_STRING}::[\w ".]+(?:\(\d+\))?')
_CAST_ARRAY = re.compile(
    rf'\(ARRAY\[({_ELEMENT.pattern}(?:, {_ELEMENT.pattern})*)\]\)::([\w ".]+)\[\]'
)
_TOKEN = re.compile(rf'{_STRING}|"(?:[^"]|"")*"|[^\W\d][\w$]*|\s+|.', re.DOTALL)
_NAME = re.compile(r'"|[^\W\dA-Z]')
_AFTER_FROM = {"WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"}
_SET_OPERATIONS = {"UNION", "INTERSECT", "EXCEPT"}


def one_form(kind: str, definition: str) -> str:
    """The definition, independent of the server's version and of how often it was dumped.

    Three things change. ``status IN ('a', 'b')`` on a varchar is written as a cast of an array,
    and read back from a dump as an array of casts. ``a BETWEEN 1 AND 5 AND b`` is written as one
    AND inside another, and read back as a single one. Up to PostgreSQL 15 the columns of a view
    bear the name of their table also where there is only one, though not so in later versions.

    Args:
        kind: as in :class:`dbops.postgres.structure.Identity`. The body of a function is somebody's
            own text, unless it is a parsed one (``BEGIN ATOMIC``), and stays as it is.
    """
    if '"' in definition:
        definition = _NEWLY_QUOTED.sub(r"\1", definition)
    if kind in ("function", "procedure") and "\nBEGIN ATOMIC" not in definition:
        return definition
    if "(ARRAY[" in definition:
        definition = _CAST_ARRAY.sub(_array_of_casts, definition)
    if "((" in definition and (") AND " in definition or ") OR " in definition):
        definition = _flat(definition)
    return _bare(definition) if kind in ("view", "materialised view") else definition


def _array_of_casts(found: re.Match[str]) -> str:
    elements = (f"({element})::{found[2]}" for element in _ELEMENT.findall(found[1]))
    return f"ARRAY[{', '.join(elements)}]"


def _flat(definition: str) -> str:
    """With the parentheses taken off an AND directly inside an AND, or an OR inside an OR."""
    tokens = _TOKEN.findall(definition)
    words = [at for at, token in enumerate(tokens) if not token.isspace()]
    joined: list[set[str]] = [set()]
    opened: list[int] = []
    groups: list[tuple[int, int, set[str], set[str]]] = []
    for place, at in enumerate(words):
        if tokens[at] == "(":
            opened.append(place)
            joined.append(set())
        elif tokens[at] == ")" and opened:
            inner = joined.pop()
            groups.append((opened.pop(), place, inner, joined[-1]))
        elif tokens[at] in ("AND", "OR"):
            joined[-1].add(tokens[at])
    for start, end, inner, outer in groups:
        around = {tokens[words[at]] for at in (start - 1, end + 1) if 0 <= at < len(words)}
        if len(inner) == 1 and inner == outer and around <= {"(", ")", *inner}:
            tokens[words[start]] = tokens[words[end]] = ""
    return "".join(tokens)


def _bare(definition: str) -> str:
    """A view's query; where it has only one table, with its name taken off the columns."""
    tokens = _TOKEN.findall(definition)
    depths = _depths(tokens)
    clause = _from_clause(tokens, depths)
    names = [tokens[at] for at in clause if depths[at] == (0, False) and _NAME.match(tokens[at])]
    several = any(
        (tokens[at] == "," and depths[at] == (0, False))
        or (tokens[at] == "JOIN" and not depths[at][1])
        for at in clause
    )
    if names and not several:
        for at in _qualifiers(tokens, names[-1]):
            if at not in clause and not depths[at][1]:
                tokens[at] = tokens[at + 1] = ""
    return "".join(tokens)


def _depths(tokens: Sequence[str]) -> list[tuple[int, bool]]:
    """Of each token: inside how many parentheses, and whether one of them holds a query."""
    depths = []
    inside = [False]
    for at, token in enumerate(tokens):
        if token == ")" and len(inside) > 1:
            inside.pop()
        depths.append((len(inside) - 1, inside[-1]))
        if token == "(":
            first = next((word for word in tokens[at + 1 :] if not word.isspace()), "")
            inside.append(inside[-1] or first in ("SELECT", "WITH", "VALUES"))
    return depths


def _from_clause(tokens: Sequence[str], depths: Sequence[tuple[int, bool]]) -> range:
    """Where the outermost query's FROM clause lies; nowhere if several queries are combined."""
    words = {at: token for at, token in enumerate(tokens) if depths[at][0] == 0 and token.isupper()}
    start = next((at for at, word in words.items() if word == "FROM"), len(tokens))
    if not _SET_OPERATIONS.isdisjoint(words.values()):
        start = len(tokens)
    after = (at for at, word in words.items() if at > start and word in _AFTER_FROM)
    return range(start, next(after, len(tokens)))


def _qualifiers(tokens: Sequence[str], name: str) -> list[int]:
    """Where ``name`` stands before the name of a column."""
    return [
        at
        for at, token in enumerate(tokens[:-2])
        if token == name
        and tokens[at + 1] == "."
        and tokens[at - 1] != "."
        and _NAME.match(tokens[at + 2])
        and tokens[at + 3 : at + 4] not in (["("], ["."])
    ]
