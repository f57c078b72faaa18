"""Rows that outlive their session: an immutable copy, or a dictionary ready for JSON."""

from __future__ import annotations

import copy
import datetime
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn

from django.db import models
from django.db.models.fields.files import FieldFile

_SECRET = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|secrets|token|tokens|api_?key|private_?key"
    r"|session_?key|otp|pin|salt|signature|credentials?)(?:_|$)",
    re.IGNORECASE,
)
"""Columns that are nobody's to see. A model adds its own: ``secret_fields = {"ssn"}``."""


class Detached:
    """What a row held when it was copied. Nothing is fetched any more, and nothing can be changed.

    Relations that were loaded are there as copies of their own; asking for another one, or for a
    field that was deferred, is an AttributeError. ``repr`` shows no values.
    """

    _label: str
    _key: Any
    _fields: tuple[str, ...]
    _hidden: frozenset[str]

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{self!r} cannot be changed.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} cannot be changed.")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled, nothing is there yet
            raise AttributeError(name)
        raise AttributeError(f"{name} of {self!r} was not loaded inside the session.")

    def __repr__(self) -> str:
        return f"<copy of {self._label} {self._key!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detached) or self._key is None:
            return self is other
        return (self._label, self._key) == (other._label, other._key)

    def __hash__(self) -> int:
        return id(self) if self._key is None else hash((self._label, self._key))


def get_detached_copy(obj: models.Model) -> Detached:
    """An immutable copy of a row for after the session, with the relations that were loaded."""
    return _copied(obj, {})


def _copied(obj: models.Model, known: dict[int, Detached]) -> Detached:
    if id(obj) in known:  # a child leads back to its parent
        return known[id(obj)]
    made = known[id(obj)] = Detached()
    values, content = _values(obj), vars(made)
    content.update(_label=obj._meta.label, _key=obj.pk, _fields=tuple(values), pk=obj.pk, **values)
    content["_hidden"] = _hidden(type(obj))
    for name, loaded in _relations(obj):
        content[name] = (
            _copied(loaded, known)
            if isinstance(loaded, models.Model)
            else tuple(_copied(each, known) for each in loaded)
            if loaded is not None
            else None
        )
    return made


def _values(obj: models.Model) -> dict[str, Any]:
    """Of the fields that were loaded, by ``attname``: ``owner_id``, not ``owner``."""
    deferred = obj.get_deferred_fields()
    return {
        field.attname: _plain(getattr(obj, field.attname))
        for field in obj._meta.concrete_fields
        if field.attname not in deferred
    }


def _plain(value: Any) -> Any:
    """A file leads back to its row, and through it to the database."""
    return value.name if isinstance(value, FieldFile) else copy.deepcopy(value)


def _relations(obj: models.Model) -> Iterator[tuple[str, models.Model | Sequence[Any] | None]]:
    """(name, row, rows or None) of each relation that was loaded."""
    yield from obj._state.fields_cache.items()
    for name, rows in getattr(obj, "_prefetched_objects_cache", {}).items():
        yield name, list(rows)


def get_entity_dict(obj: models.Model | Detached) -> dict[str, Any]:
    """The fields of a row, or of a copy, as JSON has them: times in ISO 8601 and UTC, decimals as
    strings, foreign keys as their ids. Relations and secrets (``password``, tokens, what a model
    names in ``secret_fields``) are left out."""
    if isinstance(obj, Detached):
        hidden, values = obj._hidden, {name: vars(obj)[name] for name in obj._fields}
    else:
        hidden, values = _hidden(type(obj)), _values(obj)
    return {
        name: _jsonable(value)
        for name, value in values.items()
        if name not in hidden and not _SECRET.search(name)
    }


def _hidden(model: type[models.Model]) -> frozenset[str]:
    return frozenset(getattr(model, "secret_fields", ()))


def _jsonable(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case Enum():
            return _jsonable(value.value)
        case str():
            return str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime.datetime():
            aware = value.tzinfo is not None
            return (value.astimezone(datetime.UTC) if aware else value).isoformat()
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case Mapping():
            return {str(key): _jsonable(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_jsonable(each) for each in value]
        case _:
            return str(value)
