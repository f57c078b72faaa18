"""Sessions on the environments' databases for code that is no operation: views, commands, threads.

docs/database-service.md shows each of these at work.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg2
from asgiref.local import Local
from django.db import OperationalError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.sql import Composable

from dbops import conf
from dbops.detached import Detached, get_detached_copy, get_entity_dict
from dbops.exceptions import UsageError
from dbops.operations.guards import require_own_stamp
from dbops.postgres.connection import Connection, execute, first_line, our_settings
from dbops.postgres.connection import session as direct_session
from dbops.postgres.stamp import read_stamp

__all__ = [
    "Detached", "Session", "get_db_connection", "get_db_session", "get_detached_copy",
    "get_entity_dict", "set_debug_mode", "use_nested_transactions",
]  # fmt: skip

logger = logging.getLogger("dbops.database_service")

_SHUNNED_SECONDS = 30.0
"""For how long a replica that did not answer is not asked again: each time costs a wait."""
_COMMENT = r"/\*(?:(?!/\*|\*/).)*+\*/"
for _ in range(3):  # PostgreSQL's nest
    _COMMENT = rf"/\*(?:(?!/\*|\*/).|{_COMMENT})*+\*/"
_NOT_CODE = re.compile(
    # Only behind an E a backslash means something, as standard_conforming_strings has it.
    rf"""(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*+' | '(?:[^']|'')*+' | "(?:[^"]|"")*+"
    | (?<![\w$])\$(\w*)\$.*?\$\1\$ | --[^\r\n]*+ | {_COMMENT} """,
    re.DOTALL | re.VERBOSE,
)
_ENDS_TRANSACTION = re.compile(
    r"(?:^|;)\s*(COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION"
    r"|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b))\b",
    re.IGNORECASE,
)
_ENDED_ELSEWHERE = "A session ended in another thread than began it: all was rolled back."
_STAMP_EXISTS = "SELECT pg_catalog.to_regclass('skinspire.stamp') IS NOT NULL"
_STAMP = "SELECT environment FROM skinspire.stamp"


class _OutOfTurn(UsageError):
    """Django has taken the end of this session for the end of one inside it."""


class _Modes:
    """Of the process: set once, where it starts."""

    nested = True
    debug = False


_shunned: dict[str, float] = {}
_of_thread = Local(thread_critical=True)  # as Django keeps its connections


class Session:
    """One transaction on one environment's database, while its ``with`` block lasts.

    It belongs to the thread that opened it: in another one, Django's connection of that name is
    another connection, outside this transaction.
    """

    def __init__(self, environment: str, alias: str, *, read_only: bool) -> None:
        self.environment = environment
        self.read_only = read_only
        self._alias = alias
        self._thread = threading.get_ident()
        self._ended = ""

    @property
    def using(self) -> str:
        """The alias for Django: ``Model.objects.using(session.using)``.

        Raises:
            UsageError: the session has ended, or another thread asks.
        """
        if self._ended:
            raise UsageError(self._ended)
        if threading.get_ident() != self._thread:
            raise UsageError("A session belongs to the thread that opened it: open one in each.")
        return self._alias

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """Django's connection."""
        return connections[self.using]

    def cursor(self) -> Any:
        """A cursor for SQL, to be used in a ``with`` block."""
        return self.connection.cursor()

    def objects(self, model: type[models.Model]) -> models.QuerySet[Any]:
        """The rows of a model in this session's database."""
        return model._default_manager.using(self.using)

    def add(self, row: models.Model) -> None:
        """Insert or update a row in this session's database."""
        row.save(using=self.using)

    def end(self, sentence: str = "The session has ended.") -> None:
        """What whoever still uses it hears from now on."""
        self._ended = sentence

    def __repr__(self) -> str:
        return f"<Session on {self.environment}{' to read' if self.read_only else ''}>"


@contextmanager
def get_db_session(env: str | None = None, read_only: bool = False) -> Iterator[Session]:
    """A transaction on an environment's database (the active one's unless named): committed at the
    end of the block, rolled back whole where an exception leaves it.

    Inside another one on the same environment it is a savepoint; see
    :func:`use_nested_transactions`.

    Args:
        read_only: PostgreSQL itself refuses every write, and what would lift that. Goes by the
            environment's replica where there is one that answers.

    Raises:
        UnknownEnvironmentError, ConfigurationError: no such database.
        StampError: it says it belongs to another environment.
        UsageError: one that may write inside a read-only one.
    """
    environment = conf.resolve_environment(env)
    opened = _opened()
    reading = any(it.read_only for it in opened if it.environment == environment)
    if reading and not read_only:
        raise UsageError("A session that may write was asked for inside a read-only one.")
    alias, left_open = _choose(environment, read_only)
    session = Session(environment, alias, read_only=read_only)
    with (
        _disconnecting(session, left_open),
        _transaction(session, savepoint=_Modes.nested or (read_only and not reading)),
    ):
        opened.append(session)
        try:
            yield session
        finally:
            _leave(session, opened)


def _opened() -> list[Session]:
    """This thread's sessions, the innermost last."""
    if not hasattr(_of_thread, "sessions"):
        _of_thread.sessions = []
    found: list[Session] = _of_thread.sessions
    return found


def _leave(session: Session, opened: list[Session]) -> None:
    """One that ends before those inside it, as in a generator left half-way, would end theirs."""
    inside = opened[opened.index(session) + 1 :]
    opened.remove(session)
    sentence = session._ended
    session.end()
    if sentence:
        raise UsageError(sentence)
    for each in inside:
        if each._alias == session._alias:
            each.end("The session around this one ended before it: all was rolled back.")
    if any(each._ended for each in inside):
        raise _OutOfTurn("A session ended before one inside it: all was rolled back.")


def _is_elsewhere(session: Session) -> bool:
    """Whether this is another thread, as where a generator left half-way is tidied up by it."""
    return threading.get_ident() != session._thread


@contextmanager
def _disconnecting(session: Session, left_open: bool) -> Iterator[None]:
    """Leave the connection open only where it was: a thread that serves no request would keep it
    for ever."""
    connection = session.connection
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    try:
        yield
    finally:
        if not left_open and not _is_elsewhere(session) and not connection.in_atomic_block:
            connection.close()


@contextmanager
def _transaction(session: Session, *, savepoint: bool) -> Iterator[None]:
    connection = session.connection
    outermost = not connection.in_atomic_block
    try:
        with ExitStack() as stack:
            stack.enter_context(transaction.atomic(using=session.using, savepoint=savepoint))
            if session.read_only:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION READ ONLY")
            # Also what makes "read only" final: after a query PostgreSQL takes it back no more.
            _require_stamp(session.environment, connection)
            stack.enter_context(connection.execute_wrapper(_keep_transaction))
            if _Modes.debug:
                stack.enter_context(connection.execute_wrapper(_log_statement))
            try:
                yield
            finally:
                if _is_elsewhere(session):
                    stack.pop_all()  # Django would end what this thread has open instead
                    _abandon(connection, outermost)
            if _is_elsewhere(session):
                raise UsageError(_ENDED_ELSEWHERE)
    except _OutOfTurn:
        if not _is_elsewhere(session):
            connection.set_rollback(True)
        raise


def _abandon(connection: BaseDatabaseWrapper, outermost: bool) -> None:
    """Roll back what another thread has open on its own connection, and leave it fit for use."""
    logger.warning("%s", _ENDED_ELSEWHERE)
    connection.execute_wrappers[:] = [
        it for it in connection.execute_wrappers if it not in (_keep_transaction, _log_statement)
    ]
    raw: Any = connection.connection
    if raw is not None:
        raw.close()
    if outermost:  # the next use connects anew, which puts back all the rest
        connection.connection, connection.in_atomic_block = None, False
    else:
        connection.closed_in_transaction = connection.needs_rollback = True


def _choose(environment: str, read_only: bool) -> tuple[str, bool]:
    """The alias, and whether it is connected already. A replica only where this thread has nothing
    on the primary that it had to see."""
    primary, replica = conf.session_alias(environment), conf.replica_alias(environment)
    connected = connections[primary].connection is not None
    if not read_only or replica is None or connections[primary].in_atomic_block:
        return primary, connected
    replica_connected = connections[replica].connection is not None
    if _answers(replica, environment):
        return replica, replica_connected
    return primary, connected


def _answers(replica: str, environment: str) -> bool:
    connection = connections[replica]
    if connection.in_atomic_block:
        return True
    if time.monotonic() < _shunned.get(replica, 0.0):
        return False
    try:
        connection.close_if_unusable_or_obsolete()
        connection.ensure_connection()
    except OperationalError as error:
        _shunned[replica] = time.monotonic() + _SHUNNED_SECONDS
        logger.warning(
            "The replica of %s does not answer, reading goes by the primary: %s",
            environment, first_line(error),
        )  # fmt: skip
        return False
    return True


def _require_stamp(environment: str, connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_STAMP_EXISTS)
        if not cursor.fetchone()[0]:
            return
        cursor.execute(_STAMP)
        row = cursor.fetchone()
    require_own_stamp(row[0] if row else None, environment, "it")


def _keep_transaction(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """After a COMMIT of its own a session would neither be whole nor read-only."""
    raw = context["connection"].connection
    found = _ENDS_TRANSACTION.search(_NOT_CODE.sub(" ", _text(sql, raw)))
    if found:
        raise UsageError(f"A session ends by itself: {found[1].upper()} does not belong into it.")
    _require_transaction(raw)
    result = execute(sql, params, many, context)
    _require_transaction(raw)
    return result


def _require_transaction(raw: Any) -> None:
    """Against what ended it unseen, as a COMMIT on the driver's own connection."""
    if raw.get_transaction_status() == TRANSACTION_STATUS_IDLE:
        raise UsageError("The session's transaction has ended before the session.")


def _text(statement: Any, raw: Any) -> str:
    if isinstance(statement, Composable):
        return str(statement.as_string(raw))
    return bytes(statement).decode(errors="replace") if isinstance(statement, bytes) else statement


def _log_statement(
    execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    """Never the parameters: they are patients' data. What is quoted in the text may be, too."""
    began, outcome = time.perf_counter(), "failed after"
    try:
        result = execute(sql, params, many, context)
        outcome = "took"
        return result
    finally:
        took = (time.perf_counter() - began) * 1000
        connection = context["connection"]
        text = " ".join(_NOT_CODE.sub(_hide, _text(sql, connection.connection)).split())
        alias = connection.alias
        logger.debug("%s %s %.1f ms: %s", alias, outcome, took, text)


def _hide(found: re.Match[str]) -> str:
    return found[0] if found[0].startswith('"') else "'…'"


@contextmanager
def get_db_connection(env: str | None = None, *, autocommit: bool = False) -> Iterator[Connection]:
    """A psycopg2 connection for work in the background, straight to the server: past Django, past a
    pooler, with the settings the database and the role have, and closed afterwards.

    Args:
        autocommit: each statement is committed by itself, as VACUUM and LISTEN want it. Otherwise
            the block is one transaction: committed at its end, rolled back where it fails.

    Raises:
        UnknownEnvironmentError, ConfigurationError, ConnectionFailedError: no such database.
        StampError: it says it belongs to another environment.
    """
    environment = conf.resolve_environment(env)
    params = conf.database_params(environment)
    with direct_session(params, application="skinspire background") as connection:
        require_own_stamp(read_stamp(connection), environment, "it")
        ours = our_settings(connection.server_version)
        execute(connection, ";".join(f"RESET {name}" for name in ours))
        connection.autocommit = autocommit
        try:
            yield connection
        except BaseException:
            with suppress(psycopg2.Error):  # a lost connection has rolled back by itself
                connection.rollback()
            raise
        connection.commit()


def use_nested_transactions(enabled: bool) -> None:
    """Whether a session inside another one is a savepoint, and can fail by itself (True, as it is
    from the start), or a part of it: its failure is then the whole's. For the whole process."""
    _Modes.nested = enabled


def set_debug_mode(enabled: bool) -> None:
    """Whether sessions opened from now on log their statements with what they took, never the
    values of parameters; by the logger ``dbops.database_service``. For the whole process."""
    _Modes.debug = enabled
    logger.setLevel(logging.DEBUG if enabled else logging.NOTSET)
