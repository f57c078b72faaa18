"""Strategies as SQL: for a column and its rule, the expression that takes the column's place.

Every expression yields the column's own type, needs nothing but PostgreSQL's built-in functions and
the setting ``skinspire.mask_key``, and leaves NULL as it is. It is meant for sessions whose
search_path is ours ("pg_catalog, pg_temp"): operators are not qualified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from dbops.exceptions import MaskingError
from dbops.masking.documents import mask_document, paths_tree
from dbops.masking.rules import Rule
from dbops.masking.survey import Column, SearchVector, Table
from dbops.masking.values import (
    DATES,
    DOCUMENTS,
    HASH_DIGITS,
    INTEGERS,
    TEXTS,
    UNIQUE_BITS,
    Subject,
    Unfit,
    hash_of_other,
    literal,
    mask_text,
    quoted,
    shifted,
)

_FITS: dict[str, frozenset[str]] = {
    "hash": TEXTS | INTEGERS | {"bytea", "uuid"},
    "date_shift": DATES,
    "jsonb": DOCUMENTS,
    **dict.fromkeys(("token", "name", "email", "phone", "address", "free_text"), TEXTS),
}
_VALUE_DETERMINED = ("hash", "token", "email", "name", "phone", "address", "free_text")


def compile_rule(rule: Rule, column: Column, table: Table, fold: str) -> str:
    """The expression for a column.

    Args:
        table: whose column it is; a partition's root.
        fold: the collation by which letters are folded.

    Raises:
        MaskingError: the strategy does not fit the type, length or table.
    """
    where = f"{table.label}.{column.name}"
    if rule.strategy == "null":
        return f"NULL::{column.type}"
    if rule.strategy == "constant":
        return f"{literal(_constant(rule.options['value']))}::{column.type}"
    if column.base not in _FITS[rule.strategy]:
        raise MaskingError(f"{where}: {rule.strategy} does not fit the type {column.type}.")
    reference = quoted(column.name)
    try:
        if not column.array:
            return f"({_masked(rule, reference, column, table, fold)})::{column.type}"
        element = quoted("skinspire element")
        inner = _masked(rule, element, column, table, fold)
    except Unfit as error:
        raise MaskingError(f"{where}: {error}") from error
    order = quoted("skinspire order")
    return (
        f"CASE WHEN {reference} IS NOT NULL THEN ARRAY(SELECT {inner}"
        f" FROM pg_catalog.unnest({reference}) WITH ORDINALITY"
        f" AS skinspire({element}, {order}) ORDER BY {order}) END::{column.type}"
    )


def unique_after(rule: Rule, column: Column) -> bool:
    """Whether different values stay different under a rule."""
    if column.array:
        return rule.strategy == "keep"
    room = column.length or HASH_DIGITS
    if rule.strategy == "hash" and column.base in TEXTS:
        return min(room, HASH_DIGITS) * 4 >= UNIQUE_BITS
    if rule.strategy == "hash":
        return column.base in ("int8", "uuid", "bytea")
    if rule.strategy == "token":
        return room * 6 >= UNIQUE_BITS
    return rule.strategy in ("keep", "email")


def determined_by_value(rule: Rule) -> bool:
    """Whether equal values become equal ones, in every table."""
    return rule.strategy in _VALUE_DETERMINED


def search_vector(
    vector: SearchVector, masked: Callable[[str], str], fallback: Sequence[str]
) -> str | None:
    """What the trigger would write into a tsvector column, made from masked columns; None where
    one of its columns does not exist."""
    needed = (*vector.columns, vector.configuration) if vector.by_column else vector.columns
    if not set(needed) <= set(fallback):
        return None
    configuration = (
        masked(vector.configuration)
        if vector.by_column
        else f"{literal(vector.configuration)}::pg_catalog.regconfig"
    )
    texts = ", ".join(f"{masked(name)}::text" for name in vector.columns)
    return f"pg_catalog.to_tsvector({configuration}, pg_catalog.concat_ws(' ', {texts}))"


def _constant(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(rule: Rule, reference: str, column: Column, table: Table, fold: str) -> str:
    if rule.strategy == "date_shift":
        return shifted(reference, column.base, rule, table)
    if rule.strategy == "jsonb":
        document = reference if column.base == "jsonb" else f"{reference}::jsonb"
        inside = mask_document(document, paths_tree(rule), table, fold, depth=1)
        return f"CASE WHEN {reference} IS NOT NULL THEN coalesce({inside}, '{{}}'::jsonb) END"
    if rule.strategy == "hash" and column.base not in TEXTS:
        return hash_of_other(reference, column.base)
    text = reference if column.base == "text" else f"{reference}::text"
    return mask_text(rule, Subject(text, column.length, column.base), fold)
