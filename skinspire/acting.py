"""Who acts, as PostgreSQL hears it: triggers write it into ``created_by`` and ``updated_by``.

It is told for one transaction at a time (``SET LOCAL``), so that it holds behind a pool that gives
each transaction another server connection, and so that nothing is left for whoever has the
connection next. ``skinspire.actor`` is a name, ``skinspire.actor_id`` the account's primary key.

``SET LOCAL`` rather than ``set_config()``: a query takes the transaction's snapshot, after which
``SET TRANSACTION ISOLATION LEVEL`` is too late and a ``LOCK TABLE`` protects an old picture.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import psycopg2
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INTRANS,
    QuotedString,
    encodings,
)
from psycopg2.sql import Composable


@dataclass(frozen=True)
class Actor:
    """Who acts; without a name the database puts its own role."""

    name: str
    key: str = ""
    """Primary key of the account; '' where there is none."""


NOBODY = Actor("")
"""Said knowingly, as of a request nobody has signed in for; not known at all is None."""
_UNSURE = Actor("?")
"""What a transaction was told is not known any more."""
_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


def acting() -> Actor | None:
    """Who acts in this thread or task; None where nobody was named."""
    return _acting.get()


def become(actor: Actor) -> None:
    """Name who acts from now on, to transactions that are open already as well."""
    _acting.set(actor)
    _tell_open_transactions()


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Name who acts for the length of a block, whoever else :func:`become` names inside it."""
    token = _acting.set(actor)
    try:
        _tell_open_transactions()
        yield
    finally:
        _acting.reset(token)
        _tell_open_transactions()


def os_account() -> str:
    """The account of the operating system, not what LOGNAME claims; behind sudo, both."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER") if os.getuid() == 0 else None
    account = f"{behind} as {name}" if behind else name
    return account.encode(errors="replace").decode()  # whatever bytes it holds, PostgreSQL takes it


class Teller:
    """Stands before every statement of one Django connection and names who acts."""

    def __init__(self) -> None:
        self._told: Actor | None = None

    def __call__(
        self,
        execute: Callable[..., Any],
        statement: Any,
        params: Any,
        many: bool,
        context: Mapping[str, Any],
    ) -> Any:
        connection = context["connection"]
        raw = connection.connection
        status = raw.get_transaction_status()
        if status == TRANSACTION_STATUS_IDLE:
            self._told = None
        if status == TRANSACTION_STATUS_INTRANS or not raw.autocommit:
            with connection.wrap_database_errors:
                self.tell(raw)
        elif (actor := acting()) is not None and status == TRANSACTION_STATUS_IDLE:
            statement = _named(raw, context["cursor"], statement, params, many, actor)
        try:
            return execute(statement, params, many, context)
        finally:
            if _ENDS.search(_text(raw, statement)):
                self._told = _UNSURE  # the setting went back to what it was before

    def tell(self, raw: Any) -> None:
        """As a statement of its own, where the transaction does not know it yet."""
        actor = acting()
        failed = raw.get_transaction_status() not in (
            TRANSACTION_STATUS_IDLE,
            TRANSACTION_STATUS_INTRANS,
        )
        if failed or actor == self._told:
            return
        with raw.cursor() as cursor:
            cursor.execute(_naming(raw, actor or NOBODY))
        self._told = actor


def install_teller(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Receiver of ``connection_created``."""
    wrappers = connection.execute_wrappers
    if connection.vendor == "postgresql" and not any(isinstance(it, Teller) for it in wrappers):
        # In front: a block that adds a wrapper of its own takes the last one off at its end.
        wrappers.insert(0, Teller())


def _tell_open_transactions() -> None:
    for connection in connections.all(initialized_only=True):
        raw = connection.connection
        for wrapper in connection.execute_wrappers if raw is not None else ():
            # A connection that is lost has no transaction left to be told.
            if isinstance(wrapper, Teller):
                with suppress(psycopg2.Error):
                    if raw.get_transaction_status() == TRANSACTION_STATUS_INTRANS:
                        wrapper.tell(raw)


def _naming(raw: Any, actor: Actor) -> str:
    name, key = (_quoted(raw, text) for text in (actor.name, actor.key))
    return f"SET LOCAL skinspire.actor = {name}; SET LOCAL skinspire.actor_id = {key};\n"


def _quoted(raw: Any, text: str) -> str:
    literal = QuotedString(text)
    literal.prepare(raw)
    return str(literal.getquoted().decode(literal.encoding)).strip()


def _named(raw: Any, cursor: Any, statement: Any, params: Any, many: bool, actor: Actor) -> Any:
    """A statement outside a transaction, with the actor before it in the same message: to the
    server, one message is one transaction."""
    text = _text(raw, statement)
    # A named cursor would declare itself FOR all of it.
    if cursor.name is not None or not can_write(text):
        return statement
    naming = _naming(raw, actor)
    return (naming if params is None and not many else naming.replace("%", "%%")) + text


def _text(raw: Any, statement: Any) -> str:
    """A statement in whichever form psycopg2 takes it."""
    if isinstance(statement, Composable):
        return str(statement.as_string(raw))
    if isinstance(statement, bytes):
        return statement.decode(encodings.get(raw.encoding, "utf-8"), "surrogateescape")
    return str(statement)


# A transaction, perhaps chained to the next, or what happened since a savepoint. To find one that
# is none costs a message; to miss one would leave the name of somebody else.
_ENDS = re.compile(r"\b(rollback|abort)\b|(?:^|;|\n|\*/)\s*(commit|end)\b", re.I)
_FIRST_WORD = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*([a-z]+)", re.I | re.S)
# What fires triggers. CALL and DO do, too, but inside a transaction they may not commit, and some
# do; and VACUUM, CREATE DATABASE and the like refuse to be in one.
_WRITING = frozenset({
    "insert", "update", "delete", "merge", "with", "copy", "truncate", "execute", "explain",
})  # fmt: skip
_LATER = re.compile(rf";\s*({'|'.join(_WRITING)}|select|do|call)\b", re.I)
_READING = frozenset({"select", "values", "table"})
_CALL = re.compile(r"([a-z_][\w$]*|\")\s*\(", re.I)
# Words before a parenthesis that call nothing which could write.
_HARMLESS = frozenset({
    "all", "and", "any", "as", "avg", "between", "by", "case", "cast", "coalesce", "concat",
    "count", "date_trunc", "distinct", "else", "exists", "extract", "filter", "from", "greatest",
    "in", "intersect", "join", "least", "length", "like", "limit", "lower", "max", "min", "not",
    "now", "nullif", "on", "or", "over", "select", "some", "statement_timestamp", "substring",
    "sum", "then", "union", "upper", "using", "values", "varchar", "when", "where",
})  # fmt: skip


def can_write(statement: str) -> bool:
    """Whether a statement may fire triggers: it writes, or reads by calling functions."""
    found = _FIRST_WORD.match(statement)
    word = found[1].lower() if found else ""
    if word not in ("do", "call") and _LATER.search(statement):  # several at once
        return True
    if word in _READING:
        return any(call[1].lower() not in _HARMLESS for call in _CALL.finditer(statement))
    return word in _WRITING
