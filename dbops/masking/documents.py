"""Documents as SQL: what is left of json and jsonb by the paths of a rule, all else dropped."""

from __future__ import annotations

import json
from typing import Any

from dbops.masking.rules import ARRAY, Rule
from dbops.masking.survey import Table
from dbops.masking.values import Subject, days_of, literal, mask_text, quoted

# Year, month and day of a text that begins like an ISO date.
_ISO_DATE = r"^[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_Tree = dict[str, Any]
_DEEPEST_AT_ONCE = 2
_MOST_AT_ONCE = 50
"""PostgreSQL's functions take a hundred arguments."""


def paths_tree(rule: Rule) -> _Tree:
    """Paths as nested steps, a rule at the end of each."""
    tree: _Tree = {}
    for steps, leaf in rule.paths:
        node = tree
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        node[steps[-1]] = leaf
    return tree


def mask_document(value: str, node: _Tree | Rule, table: Table, fold: str, depth: int) -> str:
    """What is left of a document: NULL where it is not of the shape the paths speak of."""
    if isinstance(node, Rule):
        return _leaf(value, f"({value} #>> '{{}}')", node, table, fold)
    kind = f"pg_catalog.jsonb_typeof({value})"
    parts = []
    if node.get(ARRAY) == Rule("keep"):  # a whole array costs a tenth of its elements one by one
        parts.append(f"WHEN {kind} = 'array' THEN {value}")
    elif ARRAY in node:
        element, order = quoted(f"skinspire element {depth}"), quoted(f"skinspire order {depth}")
        inside = mask_document(element, node[ARRAY], table, fold, depth + 1)
        elements = f"pg_catalog.jsonb_agg({inside} ORDER BY {order})"
        parts.append(
            f"WHEN {kind} = 'array' THEN (SELECT coalesce({elements}, '[]'::jsonb)"
            f" FROM pg_catalog.jsonb_array_elements({value}) WITH ORDINALITY"
            f" AS skinspire({element}, {order}))"
        )
    keys = [key for key in node if key != ARRAY]
    if keys:
        members = {key: _member(value, key, node[key], table, fold, depth) for key in keys}
        parts.append(f"WHEN {kind} = 'object' THEN {_object(value, members, depth)}")
    return f"CASE {' '.join(parts)} END" if parts else "NULL::jsonb"


def _object(value: str, members: dict[str, str], depth: int) -> str:
    """An object of the members it has. Most have all of them: put together at once that costs half
    as much as one by one. Deep inside it is not done: what is there would be written out twice at
    every level."""
    pairs = {key: f"{literal(key)}, {inside}" for key, inside in members.items()}
    parts = [
        f"CASE WHEN {value} ? {literal(key)} THEN pg_catalog.jsonb_build_object({pair})"
        f" ELSE '{{}}'::jsonb END"
        for key, pair in pairs.items()
    ]
    if depth > _DEEPEST_AT_ONCE or not 1 < len(parts) <= _MOST_AT_ONCE:
        return " || ".join(parts)
    every = ", ".join(map(literal, members))
    whole = f"pg_catalog.jsonb_build_object({', '.join(pairs.values())})"
    return f"CASE WHEN {value} ?& ARRAY[{every}] THEN {whole} ELSE {' || '.join(parts)} END"


def _member(value: str, key: str, node: _Tree | Rule, table: Table, fold: str, depth: int) -> str:
    """What a member of an object becomes."""
    found = f"({value} -> {literal(key)})"
    if isinstance(node, Rule):
        return _leaf(found, f"({value} ->> {literal(key)})", node, table, fold)
    return mask_document(found, node, table, fold, depth)


def _leaf(value: str, text: str, rule: Rule, table: Table, fold: str) -> str:
    """What is at the end of a path, given as jsonb and as text."""
    if rule.strategy == "keep":
        return value
    if rule.strategy == "null":
        return "'null'::jsonb"
    if rule.strategy == "constant":
        written = json.dumps(rule.options["value"], ensure_ascii=False, default=str)
        return f"{literal(written)}::jsonb"
    # An object or array where a single value was expected is dropped; the null of JSON stays.
    if rule.strategy == "date_shift":
        masked = _shifted_text(text, rule, table)
    else:
        masked = mask_text(rule, Subject(text, None, "text"), fold)
    single = f"pg_catalog.jsonb_typeof({value}) IN ('string', 'number', 'boolean')"
    return f"CASE WHEN {single} THEN pg_catalog.to_jsonb({masked}) END"


def _shifted_text(text: str, rule: Rule, table: Table) -> str:
    """A text that begins with an ISO date, shifted; any other becomes null. The 31st of a short
    month counts on into the next: a cast would end the copy there."""
    year, month, number = (
        f"pg_catalog.substr({text}, {at}, {size})::int4" for at, size in ((1, 4), (6, 2), (9, 2))
    )
    day = f"pg_catalog.make_date({year}, {month}, 1) + {number} - 1"
    written = f"pg_catalog.to_char({day} - ({days_of(rule, table)})::int4, 'YYYY-MM-DD')"
    shifted = f"{written} || pg_catalog.substr({text}, 11)"
    return f"CASE WHEN {text} ~ {literal(_ISO_DATE)} THEN {shifted} END"
