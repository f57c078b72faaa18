"""Plain SQL dumps made elsewhere: what is refused, what is skipped, and how one is loaded.

The statements are executed here, through psycopg2, and the file is never handed to psql: a psql
meta-command can then not run even if the lexer were fooled, because the server knows none. And a
statement that slipped through would run inside the one transaction of the load, in which the
server allows no DROP DATABASE and no ALTER SYSTEM.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import psycopg2
from psycopg2.errorcodes import INVALID_SCHEMA_NAME
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INTRANS,
    connection,
    cursor,
)

from dbops.exceptions import ForeignDumpError, StatementError
from dbops.postgres.process import do_not_poll
from dbops.postgres.script_lexer import CopyBlock, ScriptLexer, Statement, read_script
from dbops.postgres.script_source import DUMP_HINT, TRUNCATED_HINT, CopyData, truncated

__all__ = [
    "PUBLIC_FIRST",
    "CopyBlock",
    "ScriptSummary",
    "Statement",
    "check_script",
    "load_script",
    "open_script",
    "read_script",
    "refuse_statement",
    "skip_statement",
]

PUBLIC_FIRST = "SELECT pg_catalog.set_config('search_path', 'public, pg_catalog', false)"
"""Hand-written scripts expect what psql gives them; pg_dump's set their own path first."""
_PARTIAL_HINT = (
    "The dump leaves out a schema that it needs. "
    "Make it again without --schema, or with that one too."
)
_COPY_PORTION = 64 * 1024
_READING = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}

_BEYOND = "{}, which reaches beyond the database that is restored"
_IDENTITY = "{}, while everything is restored by, and belongs to, the one connecting role"
_REFUSED = [
    (re.compile(rf"(?:{pattern})(?= |$)"), what)
    for pattern, what in (
        (r"(?:CREATE|DROP|ALTER) (?:DATABASE|TABLESPACE)", _BEYOND),
        (r"(?:CREATE|ALTER|DROP) (?:ROLE|GROUP|USER(?! MAPPING(?: |$)))", _BEYOND),
        (r"(?:CREATE|ALTER|DROP) (?:SUBSCRIPTION|EVENT TRIGGER)", _BEYOND),
        (r"ALTER SYSTEM|LOAD|DROP OWNED|REASSIGN OWNED", _BEYOND),
        (r"COPY(?= .* PROGRAM ['$EU])", "{} ... PROGRAM, which runs a program on the server"),
        (r"COPY", "{} to or from something else than the dump itself"),
        (
            r"ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE TRANSACTION|COMMIT PREPARED",
            "{}, while the whole load is one transaction",
        ),
        (
            r"(?:SET|RESET) (?:SESSION |LOCAL )?"
            r'(?i:SESSION AUTHORIZATION|"?SESSION_AUTHORIZATION"?|"?ROLE"?)',
            _IDENTITY,
        ),
    )
]

_OWNED_KINDS = (
    r"(?:TABLE|FOREIGN TABLE|VIEW|MATERIALIZED VIEW|SEQUENCE|FUNCTION|PROCEDURE|ROUTINE|AGGREGATE"
    r"|TYPE|DOMAIN|SCHEMA|COLLATION|CONVERSION|OPERATOR|OPERATOR CLASS|OPERATOR FAMILY|STATISTICS"
    r"|TEXT SEARCH (?:CONFIGURATION|DICTIONARY)|PUBLICATION|FOREIGN DATA WRAPPER|SERVER"
    r"|(?:PROCEDURAL )?LANGUAGE|LARGE OBJECT)"
)
_NAME = r"[^ (),;.]+"
# Anchored at both ends: `RENAME owner TO x` and `ADD COLUMN y int, OWNER TO x` do more than that.
_OWNER = re.compile(
    rf"ALTER {_OWNED_KINDS} (?:IF EXISTS )?(?:ONLY )?{_NAME}(?: ?\. ?{_NAME})*"
    rf"(?: \( .*\))?(?: USING {_NAME})? OWNER TO {_NAME}"
)
_PUBLIC = r"(?:PUBLIC|\"public\")"
# The load is one transaction, large objects included. A --clean dump drops the schema first:
# without both, or with neither.
_SKIPPED_OF_OURS = re.compile(
    r"(?:BEGIN|START TRANSACTION|COMMIT|END)(?: .*)?"
    rf"|CREATE SCHEMA (?:IF NOT EXISTS )?{_PUBLIC}(?: AUTHORIZATION {_NAME})?"
    rf"|DROP SCHEMA (?:IF EXISTS )?{_PUBLIC}(?: CASCADE| RESTRICT)?"
)
_SKIPPED = re.compile(
    r"(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES|COMMENT ON EXTENSION)(?: .*)?|"
    + _SKIPPED_OF_OURS.pattern
)
_SETTING = re.compile(r"SET (?:SESSION |LOCAL )?([A-Z_]+) (?:=|TO)(?= |$)")
# pg_dump of a newer version sets what an older server does not know.
_SETTING_SINCE = {
    "DEFAULT_TABLE_ACCESS_METHOD": 12,
    "DEFAULT_TOAST_COMPRESSION": 14,
    "IDLE_SESSION_TIMEOUT": 14,
    "TRANSACTION_TIMEOUT": 17,
}
_TABLE = re.compile(
    r"CREATE (?:(?:GLOBAL |LOCAL )?TEMP(?:ORARY)? |UNLOGGED |FOREIGN )?TABLE(?= |$)"
)


@dataclass(frozen=True)
class ScriptSummary:
    """What a dump holds; the versions are empty when no pg_dump wrote it."""

    statements: int
    tables: int
    copy_blocks: int
    database_version: str
    pg_dump_version: str
    bytes_read: int


class _Gunzipped(gzip.GzipFile):
    """A damaged gzip is the dump's fault, and reported as such wherever it is read."""

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            name = Path(str(self.name)).name
            raise ForeignDumpError(
                f"{name} is a damaged or truncated gzip file.", hint=TRUNCATED_HINT
            ) from error


def open_script(path: str | Path) -> IO[bytes]:
    """The dump as bytes, gunzipped if its content, whatever its name, is gzip."""
    with open(path, "rb") as stream:
        magic = stream.read(2)
    return cast(IO[bytes], _Gunzipped(path, "rb")) if magic == b"\x1f\x8b" else open(path, "rb")


def refuse_statement(statement: Statement) -> str | None:
    """What the statement is and why it is never run; None for one that may run."""
    for pattern, what in _REFUSED:
        if found := pattern.match(statement.head):
            return what.format(found.group())
    return None


def skip_statement(statement: Statement, server_major: int, *, trusted: bool = False) -> bool:
    """Whether the statement is passed over: owners, grants, and what the target has already."""
    head = statement.head
    if setting := _SETTING.match(head):
        return _SETTING_SINCE.get(setting[1], 0) > server_major
    if trusted:
        return _SKIPPED_OF_OURS.fullmatch(head) is not None
    return _SKIPPED.fullmatch(head) is not None or _OWNER.fullmatch(head) is not None


def check_script(
    open_stream: Callable[[], IO[bytes]], name: str, *, poll: Callable[[], None] = do_not_poll
) -> ScriptSummary:
    """Read the whole dump before anything is touched; raises for everything that is refused."""
    with open_stream() as stream:
        survey = _Survey(ScriptLexer(stream, name), name)
        survey.run(poll)
        return survey.summary()


class _Survey:
    """The counts and the refusals of one dump."""

    def __init__(self, lexer: ScriptLexer, name: str) -> None:
        self._lexer = lexer
        self._name = name
        self._statements = self._tables = self._copy_blocks = 0
        self._refusals: list[ForeignDumpError] = []

    def run(self, poll: Callable[[], None]) -> None:
        try:
            for item in self._lexer.items():
                poll()
                self._count(item, poll)
            self._require_whole()
        except ForeignDumpError as error:
            self._refusals.append(error)
        if self._refusals:
            self._raise_first()

    def summary(self) -> ScriptSummary:
        return ScriptSummary(
            statements=self._statements,
            tables=self._tables,
            copy_blocks=self._copy_blocks,
            database_version=self._lexer.notes.get("from database", ""),
            pg_dump_version=self._lexer.notes.get("by pg_dump", ""),
            bytes_read=self._lexer.source.bytes_read,
        )

    def _count(self, item: Statement | CopyBlock, poll: Callable[[], None]) -> None:
        if isinstance(item, CopyBlock):
            self._copy_blocks += 1
            while item.data.read(_COPY_PORTION):
                poll()
            return
        self._statements += 1
        self._tables += _TABLE.match(item.head) is not None
        if reason := refuse_statement(item):
            self._refusals.append(_refusal(item, reason, self._name))

    def _require_whole(self) -> None:
        # Anything after a trailer is another dump, whose own header then waits for its trailer.
        if self._lexer.notes.get("dump", "dump complete") != "dump complete":
            raise truncated(self._name, "before pg_dump's closing comment")
        if not self._statements and not self._copy_blocks:
            raise ForeignDumpError(f"{self._name} holds no SQL statement at all.", hint=DUMP_HINT)

    def _raise_first(self) -> None:
        first, further = self._refusals[0], len(self._refusals) - 1
        if not further:
            raise first
        things = "1 further thing" if further == 1 else f"{further} further things"
        message = f"{str(first).removesuffix('.')}; {things} in it would be refused as well."
        raise ForeignDumpError(message, hint=first.hint)


def _refusal(statement: Statement, reason: str, name: str) -> ForeignDumpError:
    return ForeignDumpError(f"Line {statement.line} of {name} holds {reason}.", hint=DUMP_HINT)


def load_script(
    stream: IO[bytes],
    target: connection,
    *,
    server_major: int,
    poll: Callable[[], None],
    name: str = "the dump",
    trusted: bool = False,
) -> None:
    """Run the dump in the connection's current transaction, which the caller commits.

    What ``check_script`` refuses is refused again: the file may have changed since.

    Args:
        trusted: written by our own pg_dump just now, or signed: owners and grants are applied.
    """
    if target.autocommit:
        raise ValueError("a dump is loaded in one transaction: autocommit has to be off")
    _speak_utf8(target)
    with target.cursor() as runner:
        with _server_errors("Before the first line"):
            # The lexer read UTF-8 with standard strings, so the server has to read it so, too.
            runner.execute("SET client_encoding = 'UTF8'; SET standard_conforming_strings = on")
        for item in read_script(stream, name):
            poll()
            with _server_errors(f"Line {item.line}"):
                if isinstance(item, CopyBlock):
                    _copy(item, runner, poll)
                else:
                    _execute(item, runner, server_major, name, trusted)
            _require_unchanged(target, item.line, name)


def _speak_utf8(target: connection) -> None:
    """Messages of a LATIN1 database, too, are to be decoded as what the server then sends."""
    if target.encoding == "UTF8":
        return
    if target.info.transaction_status != TRANSACTION_STATUS_IDLE:
        # psycopg2 would roll the caller's work back without a word.
        raise ValueError("the client encoding has to be UTF8 before the transaction starts")
    target.set_client_encoding("UTF8")


def _execute(
    statement: Statement, runner: cursor, server_major: int, name: str, trusted: bool
) -> None:
    if not trusted and (reason := refuse_statement(statement)):
        raise _refusal(statement, reason, name)
    if not skip_statement(statement, server_major, trusted=trusted):
        # Bytes, as psycopg2 encodes text by what it believes the client encoding to be; and no
        # parameters, as a percent sign is then nothing but a percent sign.
        runner.execute(statement.text.encode())


def _copy(block: CopyBlock, runner: cursor, poll: Callable[[], None]) -> None:
    data = _PolledData(block.data, poll)
    try:
        runner.copy_expert(block.sql, cast(IO[bytes], data), _COPY_PORTION)
    except Exception as error:
        # psycopg2 reports what the reader raised as the server's error; the cause is what counts.
        if data.error is None:
            poll()  # a signal that came on the way into read() is reported as the server's error
        raise (data.error or error) from None


class _PolledData:
    """COPY data that asks, before every portion, whether to go on."""

    def __init__(self, data: CopyData, poll: Callable[[], None]) -> None:
        self._data = data
        self._poll = poll
        self.error: BaseException | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            self._poll()
            return self._data.read(size)
        except BaseException as error:
            self.error = error
            raise


@contextmanager
def _server_errors(where: str) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        lines = (error.diag.message_primary or str(error)).strip().splitlines()
        message = f"{where}: {lines[0] if lines else 'no message'}"
        hint = _PARTIAL_HINT if error.pgcode == INVALID_SCHEMA_NAME else ""
        raise StatementError(message, hint=hint) from error


def _require_unchanged(target: connection, line: int, name: str) -> None:
    """A second fence: a function of the dump may set what no SET statement was let through for."""
    reading = [target.info.parameter_status(setting) for setting in _READING]
    if target.info.transaction_status != TRANSACTION_STATUS_INTRANS:
        problem = "ended the transaction the dump is loaded in"
    elif reading != list(_READING.values()):
        problem = "changed how the server reads the rest of the dump"
    else:
        return
    raise ForeignDumpError(f"Line {line} of {name} {problem}.", hint=DUMP_HINT)
