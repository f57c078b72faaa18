"""Rules to paste for columns that have none: guessed by name and type, to be read by a person.

Text is never guessed to be harmless. ``keep`` is proposed, with the reason, only where masking
cannot work: for dates that are keys, and for types of which no false value is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from dbops.masking.safety import words_of
from dbops.masking.survey import Column, Table
from dbops.masking.values import DATES, DOCUMENTS, INTEGERS, TEXTS, UNIQUE_BITS

# The first line of which a word is in the column's name; texts alone.
_BY_NAME: tuple[tuple[str, str], ...] = (
    ("email mail", '"email"'),
    ("phone telephone tel mobile cell fax", '"phone"'),
    ("username login user token secret key password code number no id ref reference", '"hash"'),
    ("first given forename middle", '{ strategy = "name", part = "first" }'),
    ("last family surname", '{ strategy = "name", part = "last" }'),
    ("street", '{ strategy = "address", part = "street" }'),
    ("city town village", '{ strategy = "address", part = "city" }'),
    ("zip postcode postal pincode", '{ strategy = "address", part = "postcode" }'),
    ("address", '"address"'),
    ("name fullname", '"name"'),
)  # fmt: skip
_PEOPLE = frozenset({
    "patient", "person", "people", "user", "customer", "client", "member", "employee", "staff",
    "doctor", "contact", "guest", "student",
})  # fmt: skip
# Something that says nothing, of types that know no strategy.
_NOTHING = {
    "inet": "192.0.2.1", "cidr": "192.0.2.0/24", "macaddr": "00:00:5e:00:53:00", "interval": "0",
    "time": "12:00", "timetz": "12:00+00", "xml": "<masked/>", "bytea": "", "point": "(0,0)",
    "int4range": "empty", "int8range": "empty", "numrange": "empty", "daterange": "empty",
    "tsrange": "empty", "tstzrange": "empty", "hstore": "", "numeric": "0", "float4": "0",
    "float8": "0",
}  # fmt: skip
_SHORTEST_EMAIL = 24
_SHORTEST_PHONE = 7


def suggest_rules(missing: Iterable[tuple[str, str]], tables: Mapping[str, Table]) -> str:
    """TOML sections for (table, column) pairs."""
    by_table: dict[str, list[str]] = {}
    for label, column in missing:
        by_table.setdefault(label, []).append(column)
    sections = []
    for label, names in by_table.items():
        table = tables[label]
        lines = [f"{_toml(name)} = {_guess(table, table.columns[name])}" for name in names]
        sections.append("\n".join([f"[{_toml(label)}]", *lines]))
    return "\n\n".join(sections) + "\n" if sections else ""


def _toml(text: str) -> str:
    # JSON escapes what TOML wants escaped, but for one character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _guess(table: Table, column: Column) -> str:
    if column.base in TEXTS:
        return _guess_text(table, column)
    if column.base in DATES and not column.array:
        return _guess_date(table, column)
    if column.base in DOCUMENTS and not column.array:
        return '{ strategy = "jsonb", paths = {} }  # name what is to arrive'
    if column.base in (*INTEGERS, "uuid"):
        return '"hash"'
    return _nothing(table, column)


def _nothing(table: Table, column: Column) -> str:
    if not column.not_null:
        return '"null"'
    if not _is_key(table, column):
        if column.array:
            return '{ strategy = "constant", value = "{}" }'
        if column.base in _NOTHING:
            return f'{{ strategy = "constant", value = {_toml(_NOTHING[column.base])} }}'
        if column.base == "bytea":
            return '"hash"'
    return f'"keep"  # look at it: no false value of {_comment(column.type)} is known here'


def _guess_text(table: Table, column: Column) -> str:
    room = column.length or 2 * _SHORTEST_EMAIL
    words = words_of(column.name)
    if _is_key(table, column):
        if "email" in words and room >= _SHORTEST_EMAIL:
            return '"email"'
        return '"hash"' if room * 4 >= UNIQUE_BITS else '"token"'
    for names, rule in _BY_NAME:
        if words & set(names.split()):
            too_short = (rule == '"email"' and room < _SHORTEST_EMAIL) or (
                rule == '"phone"' and room < _SHORTEST_PHONE
            )
            return '"hash"' if too_short else rule
    return '"free_text"'


def _guess_date(table: Table, column: Column) -> str:
    if _is_key(table, column):
        return '"keep"  # part of a key: moving it would break the key'
    person = _person(table)
    if person:
        return f'{{ strategy = "date_shift", person = {_toml(person)} }}'
    if table.primary_key:
        return '"date_shift"'
    return '{ strategy = "constant", value = "2000-01-01" }' if column.not_null else '"null"'


def _person(table: Table) -> str | None:
    """The column that says whose row it is."""
    if words_of(table.name) & {*_PEOPLE, *(f"{word}s" for word in _PEOPLE)}:
        return table.primary_key[0] if len(table.primary_key) == 1 else None
    referring = [name for key in table.foreign_keys for name in key.columns]
    return next((name for name in referring if words_of(name) & _PEOPLE), None)


def _is_key(table: Table, column: Column) -> bool:
    keys = [unique.columns for unique in table.uniques]
    keys += [key.columns for key in table.foreign_keys]
    return column.name in table.partition_key or any(column.name in names for names in keys)


def _comment(text: str) -> str:
    return " ".join(text.split())
