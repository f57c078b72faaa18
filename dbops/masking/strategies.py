"""Strategies as SQL: for a column and its rule, the expression that takes the column's place.

Every expression yields the column's own type, needs nothing but PostgreSQL's built-in functions and
the setting ``skinspire.mask_key``, and leaves NULL as it is. It is meant for sessions whose
search_path is ours ("pg_catalog, pg_temp"): operators are not qualified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dbops.exceptions import MaskingError
from dbops.masking.rules import ARRAY, DEFAULT_DAYS, Rule
from dbops.masking.survey import Column, SearchVector, Table
from dbops.masking.vocabulary import BLOCK, vocabulary

KEY_SETTING = "skinspire.mask_key"
KEY_BYTES = 32
TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
INTEGERS = frozenset({"int2", "int4", "int8"})
DATES = frozenset({"date", "timestamp", "timestamptz"})
DOCUMENTS = frozenset({"json", "jsonb"})
UNIQUE_BITS = 48
"""Of a hash that stands for a unique value: among 100,000 two are alike once in 50,000 cases."""
_HASH_DIGITS = 32
_EMAIL_DIGITS = 16
_RESERVED = ("@example.invalid", "@example.com")
# Numbers no telephone company gives out: 555-0100 to 555-0199 of each area.
_WITH_AREA = "80000 + 20000"
_PHONES = ((12, 'FM"+1"000"55501"00', _WITH_AREA), (10, 'FM000"55501"00', _WITH_AREA),
           (7, 'FM"55501"00', "100"))  # fmt: skip
_POSTCODE = 5
_LONGEST_POSTCODE = 10
# Year, month and day of a text that begins like an ISO date.
_ISO_DATE = r"^[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_FITS: dict[str, frozenset[str]] = {
    "hash": TEXTS | INTEGERS | {"bytea", "uuid"},
    "date_shift": DATES,
    "jsonb": DOCUMENTS,
    **dict.fromkeys(("token", "name", "email", "phone", "address", "free_text"), TEXTS),
}
_VALUE_DETERMINED = ("hash", "token", "email", "name", "phone", "address", "free_text")


@dataclass(frozen=True)
class Subject:
    """What a strategy works on: a text expression, and how long its result may be."""

    text: str
    length: int | None
    base: str


def quoted(*names: str) -> str:
    """A possibly qualified SQL identifier."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def literal(text: str) -> str:
    """An SQL string, whatever standard_conforming_strings says."""
    escaped = text.replace("'", "''")
    return "E'" + escaped.replace("\\", "\\\\") + "'" if "\\" in text else f"'{escaped}'"


def hashed(kind: str, text: str) -> str:
    """The keyed hash of a text expression. Each kind has a key of its own, made once per
    statement by the sub-query, so that the same value as a first and as a last name has two hashes.

    The key stands in front and has one length, so no value can pass for another. A setting that
    is empty or of another length is an error, never a hash that anyone could repeat.
    """
    setting = f"pg_catalog.current_setting({literal(KEY_SETTING)})"
    length = (
        f"CASE WHEN pg_catalog.length({setting}) = {KEY_BYTES * 2} THEN {KEY_BYTES} ELSE -1 END"
    )
    key = f"pg_catalog.substring(pg_catalog.decode({setting}, 'hex'), 1, {length})"
    return (
        f"pg_catalog.sha256((SELECT pg_catalog.sha256({key} || '{kind}'::bytea))"
        f" || pg_catalog.convert_to({text}, 'UTF8'))"
    )


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
    except _Unfit as error:
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
    room = column.length or _HASH_DIGITS
    if rule.strategy == "hash" and column.base in TEXTS:
        return min(room, _HASH_DIGITS) * 4 >= UNIQUE_BITS
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


class _Unfit(Exception):
    """Why a strategy cannot work here."""


def _constant(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(rule: Rule, reference: str, column: Column, table: Table, fold: str) -> str:
    if rule.strategy == "date_shift":
        return _shifted(reference, column.base, rule, table)
    if rule.strategy == "jsonb":
        document = reference if column.base == "jsonb" else f"{reference}::jsonb"
        inside = _document(document, _tree(rule), table, fold, depth=1)
        return f"CASE WHEN {reference} IS NOT NULL THEN coalesce({inside}, '{{}}'::jsonb) END"
    if rule.strategy == "hash" and column.base not in TEXTS:
        return _hash_of_other(reference, column.base)
    text = reference if column.base == "text" else f"{reference}::text"
    return _text(rule, Subject(text, column.length, column.base), fold)


def _text(rule: Rule, subject: Subject, fold: str) -> str:
    match rule.strategy:
        case "hash":
            return f"pg_catalog.left({_hex(_whole(subject, 'hash'))}, {_HASH_DIGITS})"
        case "token":
            return _token(subject)
        case "email":
            return _email(subject)
        case "phone":
            return _phone(subject)
        case "name":
            return _name(rule.options.get("part", "full"), subject.text, fold)
        case "address":
            return _address(rule.options.get("part", "full"), subject, fold)
        case _:
            return _prose(subject.text)


def _whole(subject: Subject, kind: str) -> str:
    # What citext takes for equal must stay equal.
    text = f"pg_catalog.lower({subject.text})" if subject.base == "citext" else subject.text
    return hashed(kind, text)


def _hex(value: str) -> str:
    return f"pg_catalog.encode({value}, 'hex')"


def _number(value: str) -> str:
    """The first four bytes of a hash as a whole number: the cheapest way that was measured."""
    return f"('x' || {_hex(f'pg_catalog.substring({value}, 1, 4)')})::bit(32)::int8"


def _pick(words: Sequence[str], value: str) -> str:
    return f"({_array(tuple(words))})[1 + ({_number(value)} % {len(words)})::int4]::text"


@lru_cache(maxsize=16)
def _array(words: tuple[str, ...]) -> str:
    entries = ",".join(f'"{word}"' for word in words)
    return f"{literal('{' + entries + '}')}::name[]"


def _folded(text: str, fold: str) -> str:
    return _lower(f"pg_catalog.btrim({text})", fold)


def _lower(text: str, fold: str) -> str:
    return f"pg_catalog.lower({text} COLLATE {fold})"


def _name(part: str, text: str, fold: str) -> str:
    """A full name is masked word by word, so that it agrees with the columns of another table that
    hold its first and its last part."""
    words = vocabulary()
    if part != "full":
        chosen = words.first if part == "first" else words.last
        return _pick(chosen, hashed(part, _folded(text, fold)))
    trimmed = f"pg_catalog.btrim({text})"
    last = f"pg_catalog.split_part({trimmed}, ' ', -1)"
    first = f"pg_catalog.left({trimmed}, -pg_catalog.length({last}))"
    given, family = hashed("first", _folded(first, fold)), hashed("last", _lower(last, fold))
    return f"{_pick(words.first, given)} || ' ' || {_pick(words.last, family)}"


def _email(subject: Subject) -> str:
    for domain in _RESERVED:
        digits = _EMAIL_DIGITS if subject.length is None else subject.length - len(domain)
        if digits * 4 >= UNIQUE_BITS:
            cut = f"pg_catalog.left({_hex(_whole(subject, 'email'))}, {min(digits, _EMAIL_DIGITS)})"
            return f"{cut} || {literal(domain)}"
    raise _Unfit(f"email does not fit into {subject.length} characters.")


def _phone(subject: Subject) -> str:
    for length, form, range_ in _PHONES:
        if subject.length is None or subject.length >= length:
            number = _number(hashed("phone", subject.text))
            return f"pg_catalog.to_char({number} % {range_}, {literal(form)})"
    raise _Unfit(f"phone does not fit into {subject.length} characters.")


def _address(part: str, subject: Subject, fold: str) -> str:
    value = hashed(part, _folded(subject.text, fold))
    if part != "postcode":
        return _pick(getattr(vocabulary(), part), value)
    fixed = subject.base == "bpchar" and (subject.length or 0) <= _LONGEST_POSTCODE
    digits = subject.length if fixed and subject.length else _POSTCODE
    # Codes that begin with two zeros belong to no place in most countries.
    return f"pg_catalog.lpad(({_number(value)} % 1000)::text, {digits}, '0')"


def _token(subject: Subject) -> str:
    encoded = f"pg_catalog.encode({_whole(subject, 'token')}, 'base64')"
    return f"pg_catalog.left(pg_catalog.translate({encoded}, '+/', '-_'), {_HASH_DIGITS})"


def _prose(text: str) -> str:
    """Latin of about the same length. Only the length is looked at: a long text need not even be
    fetched from where the server stores it out of line. As bytes, since finding the n-th character
    of a text means walking over all before it."""
    words = vocabulary().prose
    size = f"pg_catalog.octet_length({text})"
    rounded = f"({size} + 7) / 8 * 8"
    blocks = len(words) // BLOCK // 8
    start = f"{size} % {blocks} * {BLOCK} + 1"
    longest = len(words) - blocks * BLOCK
    short = f"pg_catalog.substring({literal(words)}::bytea, {start}, {rounded})"
    long = f"pg_catalog.rpad('', {size}, {literal(words[: BLOCK * 8])})"
    short = f"pg_catalog.convert_from({short}, 'UTF8')"
    return f"CASE WHEN {size} <= {longest} THEN {short} ELSE {long} END"


def _hash_of_other(reference: str, base: str) -> str:
    if base == "bytea":
        return hashed("hash", _hex(reference))
    value = hashed("hash", f"{reference}::text")
    if base == "uuid":
        return _hex(f"pg_catalog.substring({value}, 1, 16)")
    bits, most = {"int2": (16, 2**15 - 1), "int4": (32, 2**31 - 1), "int8": (64, 2**63 - 1)}[base]
    digits = _hex(f"pg_catalog.substring({value}, 1, {bits // 8})")
    return f"('x' || {digits})::bit({bits})::int8 & {most}"


def _days(rule: Rule, table: Table) -> str:
    """Days by which everything of one person moves into the past: at least one, and never into the
    future, where a date of birth would be none."""
    person = rule.options.get("person")
    if person is not None and person not in table.columns:
        raise _Unfit(f"date_shift by {person}, but {table.label} has no such column.")
    names = (person,) if person is not None else table.primary_key
    if not names:
        raise _Unfit("date_shift needs a person: the table has no primary key.")
    which = ", ".join(f"{quoted(name)}::text" for name in names)
    value = hashed("date_shift", f"pg_catalog.concat_ws('|', {which})")
    return f"1 + {_number(value)} % {rule.options.get('days', DEFAULT_DAYS)}"


def _shifted(reference: str, base: str, rule: Rule, table: Table) -> str:
    days = _days(rule, table)
    if base == "date":
        return f"{reference} - ({days})::int4"
    # Hours: a day of a time zone may have 23 of them, and intervals are to stay as they are.
    return f"{reference} - pg_catalog.make_interval(hours => (24 * ({days}))::int4)"


_Tree = dict[str, Any]


def _tree(rule: Rule) -> _Tree:
    """Paths as nested steps, a rule at the end of each."""
    tree: _Tree = {}
    for steps, leaf in rule.paths:
        node = tree
        for step in steps[:-1]:
            node = node.setdefault(step, {})
        node[steps[-1]] = leaf
    return tree


def _document(value: str, node: _Tree | Rule, table: Table, fold: str, depth: int) -> str:
    """What is left of a document: NULL where it is not of the shape the paths speak of."""
    if isinstance(node, Rule):
        return _leaf(value, node, table, fold)
    kind = f"pg_catalog.jsonb_typeof({value})"
    parts = []
    if node.get(ARRAY) == Rule("keep"):  # a whole array costs a tenth of its elements one by one
        parts.append(f"WHEN {kind} = 'array' THEN {value}")
    elif ARRAY in node:
        element, order = quoted(f"skinspire element {depth}"), quoted(f"skinspire order {depth}")
        inside = _document(element, node[ARRAY], table, fold, depth + 1)
        elements = f"pg_catalog.jsonb_agg({inside} ORDER BY {order})"
        parts.append(
            f"WHEN {kind} = 'array' THEN (SELECT coalesce({elements}, '[]'::jsonb)"
            f" FROM pg_catalog.jsonb_array_elements({value}) WITH ORDINALITY"
            f" AS skinspire({element}, {order}))"
        )
    keys = [key for key in node if key != ARRAY]
    if keys:
        members = " || ".join(_member(value, key, node[key], table, fold, depth) for key in keys)
        parts.append(f"WHEN {kind} = 'object' THEN {members}")
    return f"CASE {' '.join(parts)} END" if parts else "NULL::jsonb"


def _member(value: str, key: str, node: _Tree | Rule, table: Table, fold: str, depth: int) -> str:
    inside = _document(f"({value} -> {literal(key)})", node, table, fold, depth)
    built = f"pg_catalog.jsonb_build_object({literal(key)}, {inside})"
    return f"CASE WHEN {value} ? {literal(key)} THEN {built} ELSE '{{}}'::jsonb END"


def _leaf(value: str, rule: Rule, table: Table, fold: str) -> str:
    if rule.strategy == "keep":
        return value
    if rule.strategy == "null":
        return "'null'::jsonb"
    if rule.strategy == "constant":
        written = json.dumps(rule.options["value"], ensure_ascii=False, default=str)
        return f"{literal(written)}::jsonb"
    # An object or array where a single value was expected is dropped; the null of JSON stays.
    text = f"({value} #>> '{{}}')"
    if rule.strategy == "date_shift":
        masked = _shifted_text(text, rule, table)
    else:
        masked = _text(rule, Subject(text, None, "text"), fold)
    single = f"pg_catalog.jsonb_typeof({value}) IN ('string', 'number', 'boolean')"
    return f"CASE WHEN {single} THEN pg_catalog.to_jsonb({masked}) END"


def _shifted_text(text: str, rule: Rule, table: Table) -> str:
    """A text that begins with an ISO date, shifted; any other becomes null. The 31st of a short
    month counts on into the next: a cast would end the copy there."""
    year, month, number = (
        f"pg_catalog.substr({text}, {at}, {size})::int4" for at, size in ((1, 4), (6, 2), (9, 2))
    )
    day = f"pg_catalog.make_date({year}, {month}, 1) + {number} - 1"
    written = f"pg_catalog.to_char({day} - ({_days(rule, table)})::int4, 'YYYY-MM-DD')"
    shifted = f"{written} || pg_catalog.substr({text}, 11)"
    return f"CASE WHEN {text} ~ {literal(_ISO_DATE)} THEN {shifted} END"
