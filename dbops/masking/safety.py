"""Which columns may leave a protected environment without a rule: those that can hold no more than
a number, a yes or no, or a word the schema itself lists, and are not named like an identifier."""

from __future__ import annotations

import re

# Names that SQL, PostgreSQL's catalogue and Django use for one type.
_ALIASES = {
    "boolean": "bool", "smallint": "int2", "integer": "int4", "bigint": "int8", "real": "float4",
    "double precision": "float8", "decimal": "numeric", "smallserial": "int2", "serial": "int4",
    "bigserial": "int8", "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp", "character varying": "varchar",
    "character": "bpchar",
}  # fmt: skip
_WHOLE = frozenset({"int2", "int4", "int8", "numeric"})
_NUMBERS = _WHOLE | {"float4", "float8", "money"}
_STAMPS = frozenset({"timestamp", "timestamptz"})
# When a row was written, not when something happened to a person.
_BOOKKEEPING = frozenset(
    f"{verb}{end}"
    for verb in ("created", "updated", "modified", "changed", "inserted")
    for end in ("", "_at", "_on")
)
# Words in the name of a number that stands for a person, and of one that says where they are.
_IDENTIFYING = frozenset({
    "phone", "telephone", "tel", "mobile", "cell", "fax", "ssn", "nin", "nino", "nhs", "sin",
    "aadhaar", "pan", "passport", "licence", "license", "insurance", "insured", "tax", "vat", "tin",
    "iban", "account", "card", "cvv", "pin", "mrn", "national", "identity", "zip", "postcode",
    "postal", "pincode", "birth", "born", "dob", "birthday",
})  # fmt: skip
_PLACES = frozenset({"lat", "latitude", "lon", "lng", "long", "longitude"})


def is_safe(
    column: str, type_name: str, *, enum: bool = False, key: bool = False, fraction: bool = False
) -> bool:
    """Whether a column needs no rule.

    Args:
        type_name: below domains and arrays, as PostgreSQL or Django writes it.
        key: it is a primary key, or refers to one.
        fraction: it is a numeric with digits after the point.
    """
    plain = type_name.partition("(")[0].strip()
    base = _ALIASES.get(plain, plain)
    if enum or base == "bool":
        return True
    if base in _STAMPS:
        return column.lower() in _BOOKKEEPING
    if key:  # a surrogate: it says nothing outside the database
        return base in _NUMBERS or base == "uuid"
    words = words_of(column)
    if base not in _NUMBERS or words & _PLACES:
        return False
    can_identify = base in _WHOLE and not fraction  # no number of an account has cents
    return not (can_identify and words & _IDENTIFYING)


def words_of(column: str) -> frozenset[str]:
    """The words a column's name consists of: ``patient_taxNumber2`` is patient, tax and number."""
    return frozenset(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", column).lower()))
