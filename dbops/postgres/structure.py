"""Everything in a database that is definition and not data, as text that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dbops.postgres.connection import WRITTEN, Connection, apply_settings, fetch_all_polled
from dbops.postgres.deparse import one_form
from dbops.postgres.names import qualified
from dbops.postgres.process import Poll

_FILES = Path(__file__).parents[1] / "sql" / "structure"
# What belongs to something stands after it.
_ORDER = (
    "schemas", "types", "relations", "columns", "sequences", "constraints", "indexes", "routines",
    "attachments", "others",
)  # fmt: skip
# What an extension brought, and the functions and casts that came with a range type.
_MEMBERS = """SELECT DISTINCT classid, objid FROM pg_depend WHERE deptype = 'e'
    OR deptype = 'i' AND classid IN ('pg_proc'::regclass, 'pg_cast'::regclass)"""
# Compiling these queries takes longer than running them.
_READING = {"quote_all_identifiers": "off", "jit": "off"}


class Identity(NamedTuple):
    """What an object is, the same in every database: ("column", "public.people.name")."""

    kind: str
    name: str
    """In double quotes where a part of it is not made of small letters, digits and _."""


class Definition(NamedTuple):
    """How an object is defined."""

    text: str
    """As the server writes it, in one form for all its versions; lines tell properties apart."""
    within: Identity | None
    """What it belongs to and comes and goes with; None for what belongs to the database."""


def read_structure(connection: Connection, poll: Poll) -> dict[Identity, Definition]:
    """The definition of every object users made in the connected database.

    Grants and the settings of the database are told, too. Objects of extensions and of the schema
    ``skinspire``, and our own triggers, are left out (:func:`dbops.postgres.triggers.present` has
    these). So is what differs rightly between environments: names of owners, tablespaces, options
    of foreign servers, and values of sequences. The order of a table's columns is not told, either:
    they are addressed by name, and it follows from when each was added; of a composite type, whose
    values are written by position, it is.

    For one state of the whole, call it in a REPEATABLE READ transaction.

    Raises:
        StatementError: the server refused a query.
    """
    apply_settings(connection, WRITTEN | _READING)
    reading = _Reading(set(fetch_all_polled(connection, _MEMBERS, poll)))
    for name in _ORDER:
        reading.add(fetch_all_polled(connection, _file(name), poll))
    for row in fetch_all_polled(connection, _file("comments"), poll):
        reading.add_beside("comment", *row)
    for row in fetch_all_polled(connection, _file("grants"), poll):
        reading.add_beside("grants", *row)
    for name, value in fetch_all_polled(connection, _file("settings"), poll):
        reading.found[Identity("setting", name)] = Definition(value, None)
    return reading.found


@cache
def _file(name: str) -> str:
    return (_FILES / f"{name}.sql").read_text(encoding="utf-8")


class _Reading:
    """What was found so far, and under which numbers of this server's."""

    def __init__(self, members: set[tuple[Any, ...]]) -> None:
        self.found: dict[Identity, Definition] = {}
        self._members = members
        """(class, object) of what nobody made by itself."""
        self._schemas: dict[int, Identity] = {}
        self._known: dict[tuple[Any, ...], Identity] = {}

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take objects in, unless they, or what they belong to, are not the users'.

        Of each: its number and that of what it belongs to (three zeros: its schema, or the
        database), both as (class, object, part); the number of the schema (0: it bears the name of
        what it belongs to, or none); kind; name (None: the next holds it all); arguments, as part
        of the name; definition (None: it is there for what belongs to it).
        """
        for *numbers, namespace, kind, name, arguments, definition in rows:
            own, owner = tuple(numbers[:3]), tuple(numbers[3:])
            schema = self._schemas.get(namespace)
            within = self._known.get(owner) if owner[0] else schema
            if (namespace and not schema) or (owner[0] and not within):
                continue
            member = own[:2] in self._members
            identity = Identity(kind, _full_name(schema or within, name, arguments))
            if kind == "schema":  # users may have put theirs into one that an extension made
                self._schemas[own[1]] = identity
            elif member:
                continue
            self._known[own] = identity
            if definition is not None and not member:
                self.found[identity] = Definition(one_form(kind, definition), within)

    def add_beside(self, kind: str, class_id: int, object_id: int, part: int, text: str) -> None:
        """Take a comment or the grants of something in, if that itself was."""
        if identity := self._known.get((class_id, object_id, part)):
            self.found[Identity(kind, " ".join(identity))] = Definition(text, identity)


def _full_name(before: Identity | None, name: str | None, arguments: str) -> str:
    if arguments:
        arguments = one_form("", arguments)
    if name is None:
        return arguments
    own = qualified(name) + arguments
    return f"{before.name}.{own}" if before else own
