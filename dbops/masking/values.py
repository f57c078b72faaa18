"""Single values as SQL: what a text, number or date is replaced by, from its keyed hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dbops.masking.rules import DEFAULT_DAYS, Rule
from dbops.masking.survey import Table
from dbops.masking.vocabulary import BLOCK, vocabulary
from dbops.postgres.names import quoted_name

KEY_SETTING = "skinspire.mask_key"
KEY_BYTES = 32
TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
INTEGERS = frozenset({"int2", "int4", "int8"})
DATES = frozenset({"date", "timestamp", "timestamptz"})
DOCUMENTS = frozenset({"json", "jsonb"})
UNIQUE_BITS = 48
"""Of a hash that stands for a unique value: among 100,000 two are alike once in 50,000 cases."""
HASH_DIGITS = 32
_EMAIL_DIGITS = 16
_RESERVED = ("@example.invalid", "@example.com")
# Numbers no telephone company gives out: 555-0100 to 555-0199 of each area.
_WITH_AREA = "80000 + 20000"
_PHONES = ((12, 'FM"+1"000"55501"00', _WITH_AREA), (10, 'FM000"55501"00', _WITH_AREA),
           (7, 'FM"55501"00', "100"))  # fmt: skip
_POSTCODE = 5
_LONGEST_POSTCODE = 10


@dataclass(frozen=True)
class Subject:
    """What a strategy works on: a text expression, and how long its result may be."""

    text: str
    length: int | None
    base: str


def quoted(*names: str) -> str:
    """A possibly qualified SQL identifier."""
    return ".".join(map(quoted_name, names))


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


class Unfit(Exception):
    """Why a strategy cannot work here."""


def mask_text(rule: Rule, subject: Subject, fold: str) -> str:
    match rule.strategy:
        case "hash":
            return f"pg_catalog.left({_hex(_whole(subject, 'hash'))}, {HASH_DIGITS})"
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


def folded(text: str, fold: str) -> str:
    return _lower(f"pg_catalog.btrim({text})", fold)


def _lower(text: str, fold: str) -> str:
    return f"pg_catalog.lower({text} COLLATE {fold})"


def _name(part: str, text: str, fold: str) -> str:
    """A full name is masked word by word, so that it agrees with the columns of another table that
    hold its first and its last part."""
    words = vocabulary()
    if part != "full":
        chosen = words.first if part == "first" else words.last
        return _pick(chosen, hashed(part, folded(text, fold)))
    trimmed = f"pg_catalog.btrim({text})"
    last = f"pg_catalog.split_part({trimmed}, ' ', -1)"
    first = f"pg_catalog.left({trimmed}, -pg_catalog.length({last}))"
    given, family = hashed("first", folded(first, fold)), hashed("last", _lower(last, fold))
    return f"{_pick(words.first, given)} || ' ' || {_pick(words.last, family)}"


def _email(subject: Subject) -> str:
    for domain in _RESERVED:
        digits = _EMAIL_DIGITS if subject.length is None else subject.length - len(domain)
        if digits * 4 >= UNIQUE_BITS:
            cut = f"pg_catalog.left({_hex(_whole(subject, 'email'))}, {min(digits, _EMAIL_DIGITS)})"
            # No address is nobody's, and many have it where an address is unique.
            none = f"pg_catalog.octet_length({subject.text}) = 0"
            return f"CASE WHEN {none} THEN '' ELSE {cut} || {literal(domain)} END"
    raise Unfit(f"email does not fit into {subject.length} characters.")


def _phone(subject: Subject) -> str:
    for length, form, range_ in _PHONES:
        if subject.length is None or subject.length >= length:
            number = _number(hashed("phone", subject.text))
            return f"pg_catalog.to_char({number} % {range_}, {literal(form)})"
    raise Unfit(f"phone does not fit into {subject.length} characters.")


def _address(part: str, subject: Subject, fold: str) -> str:
    value = hashed(part, folded(subject.text, fold))
    if part != "postcode":
        return _pick(getattr(vocabulary(), part), value)
    fixed = subject.base == "bpchar" and (subject.length or 0) <= _LONGEST_POSTCODE
    digits = subject.length if fixed and subject.length else _POSTCODE
    # Codes that begin with two zeros belong to no place in most countries.
    return f"pg_catalog.lpad(({_number(value)} % 1000)::text, {digits}, '0')"


def _token(subject: Subject) -> str:
    encoded = f"pg_catalog.encode({_whole(subject, 'token')}, 'base64')"
    return f"pg_catalog.left(pg_catalog.translate({encoded}, '+/', '-_'), {HASH_DIGITS})"


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


def hash_of_other(reference: str, base: str) -> str:
    if base == "bytea":
        return hashed("hash", _hex(reference))
    value = hashed("hash", f"{reference}::text")
    if base == "uuid":
        return _hex(f"pg_catalog.substring({value}, 1, 16)")
    bits, most = {"int2": (16, 2**15 - 1), "int4": (32, 2**31 - 1), "int8": (64, 2**63 - 1)}[base]
    digits = _hex(f"pg_catalog.substring({value}, 1, {bits // 8})")
    return f"('x' || {digits})::bit({bits})::int8 & {most}"


def days_of(rule: Rule, table: Table) -> str:
    """Days by which everything of one person moves into the past: at least one, and never into the
    future, where a date of birth would be none."""
    person = rule.options.get("person")
    if person is not None and person not in table.columns:
        raise Unfit(f"date_shift by {person}, but {table.label} has no such column.")
    names = (person,) if person is not None else table.primary_key
    if not names:
        raise Unfit("date_shift needs a person: the table has no primary key.")
    which = ", ".join(f"{quoted(name)}::text" for name in names)
    value = hashed("date_shift", f"pg_catalog.concat_ws('|', {which})")
    return f"1 + {_number(value)} % {rule.options.get('days', DEFAULT_DAYS)}"


def shifted(reference: str, base: str, rule: Rule, table: Table) -> str:
    days = days_of(rule, table)
    if base == "date":
        return f"{reference} - ({days})::int4"
    # Hours: a day of a time zone may have 23 of them, and intervals are to stay as they are.
    return f"{reference} - pg_catalog.make_interval(hours => (24 * ({days}))::int4)"
