"""Rows from one database into another, by COPY, never whole in memory."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import psycopg2
from psycopg2 import sql

from dbops.exceptions import ProofError, StatementError, ToolError
from dbops.postgres.archive import LOCK_WAIT_MS
from dbops.postgres.connection import WRITTEN, Connection, first_line, our_settings
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import CHUNK, Child, Poll, memory_file, widen
from dbops.wording import counted

READING = {"lock_timeout": str(LOCK_WAIT_MS)}
"""For who reads a table that another session has locked for him: somebody who asked for it in
between waits for that session, and would be waited for."""

QUOTING = ("22", "23")
"""SQLSTATE classes whose messages quote values: data exceptions and violated constraints."""


def copy_rows(
    source: Connection,
    target: Connection,
    read: sql.Composable,
    write: sql.Composable,
    poll: Poll,
) -> int:
    """Feed ``COPY … TO STDOUT`` of one connection to ``COPY … FROM STDIN`` of another.

    Returns:
        The number of rows written.

    Raises:
        StatementError: either end failed.
    """
    outgoing, incoming = os.pipe()
    failures: list[BaseException] = []
    sent = [-1]

    def send() -> None:
        try:
            with os.fdopen(incoming, "wb", CHUNK) as pipe, source.cursor() as cursor:
                cursor.copy_expert(read, pipe, CHUNK)
                sent[0] = cursor.rowcount
        except (psycopg2.Error, BrokenPipeError) as error:
            failures.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        with os.fdopen(outgoing, "rb", CHUNK) as pipe, target.cursor() as cursor:
            checked = cast(IO[bytes], _Checked(pipe, sender, failures, poll))  # read() is all
            cursor.copy_expert(write, checked, CHUNK)
            arrived = int(cursor.rowcount)
    except psycopg2.Error as error:
        poll()  # a signal that came inside read() is reported as the server's error
        raise StatementError(_told(failures[0] if failures else error)) from error
    finally:
        sender.join()
    _require_all(sent[0], arrived)
    return arrived


def _told(error: BaseException) -> str:
    """What the server said, unless it may have quoted a value: nobody's data belongs in a log."""
    code = getattr(error, "pgcode", None)
    if not code or code[:2] not in QUOTING:
        return first_line(error)
    diagnosis = getattr(error, "diag", None)
    return _unquoted(code, getattr(diagnosis, "constraint_name", None))


def _unquoted(code: str, constraint: str | None) -> str:
    return f"a value does not fit (SQLSTATE {code}{f', {constraint}' if constraint else ''})"


class _Checked:
    """The pipe's reading end: at its end it tells apart whether all came or the sender failed."""

    def __init__(
        self, pipe: IO[bytes], sender: threading.Thread, failures: list[BaseException], poll: Poll
    ) -> None:
        self._pipe, self._sender, self._failures, self._poll = pipe, sender, failures, poll

    def read(self, size: int = -1) -> bytes:
        self._poll()
        data = self._pipe.read(size)
        if not data:
            self._sender.join()
            if self._failures:
                raise self._failures[0]
        return data


def _require_all(sent: int, arrived: int) -> None:
    if sent != arrived:
        raise ProofError(f"{counted(sent, 'row was', 'rows were')} sent and {arrived} arrived.")


@dataclass(frozen=True)
class End:
    """Where one psql works: on which database, of which version, under which snapshot."""

    psql: Path
    params: ConnectionParams
    server_version: int
    application: str
    snapshot: str = ""
    """Of an exported one, to read under; "" to write."""

    @property
    def environment(self) -> dict[str, str]:
        """What psql is started with. Both ends speak UTF-8, whatever the databases and roles say:
        what the sender writes is what the receiver reads."""
        return {"PGAPPNAME": self.application[:63], "PGCLIENTENCODING": "UTF8"}

    def preamble(self) -> list[str]:
        """Statements that make the session one of ours."""
        settings = {**our_settings(self.server_version), **WRITTEN}
        settings |= READING if self.snapshot else {"synchronous_commit": "off"}
        statements = [
            f"SELECT pg_catalog.set_config('{name}', '{value}', false)"
            for name, value in settings.items()
        ]
        if self.snapshot:
            statements += [
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                f"SET TRANSACTION SNAPSHOT '{self.snapshot}'",
            ]
        return statements


def pipe_rows(source: End, target: End, read: str, write: list[str], poll: Poll) -> int:
    """The same as :func:`copy_rows` from one psql into another, for many rows: none of them passes
    through this process, in which each would cost more than sending it.

    Args:
        read: ``COPY … TO STDOUT``. write: statements, of which one is ``COPY … FROM STDIN``.

    Raises:
        ToolError: either end failed. ProofError: not all that was sent arrived.
    """
    with ExitStack() as closing:
        # As files, which close once: another thread may have the same number by the second time.
        ends = [os.fdopen(end, mode, 0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
        for end in ends:
            closing.enter_context(end)
        widen(*ends)
        outgoing, incoming = (end.fileno() for end in ends)
        script = ";\n".join([*source.preamble(), f"{read} \\g /dev/fd/{incoming}\n"])
        path, descriptors = closing.enter_context(memory_file(script.encode()))
        sender = closing.enter_context(
            Child(
                [source.psql, *_PSQL, "--file", path],
                params=source.params,
                environment=source.environment,
                descriptors=(*descriptors, incoming),
            )
        )
        commands = [f"--command={statement}" for statement in [*target.preamble(), *write]]
        receiver = closing.enter_context(
            Child(
                [target.psql, *_PSQL, *commands],
                params=target.params,
                environment=target.environment,
                stdin=outgoing,
            )
        )
        for end in ends:  # theirs alone, so that each sees the other one end
            end.close()
        _wait_for_both(sender, receiver, poll)
        sent, arrived = (_copied(child) for child in (sender, receiver))
    _require_all(sent, arrived)
    return arrived


_PSQL = ("--no-psqlrc", "--no-password", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1",
         "--set=VERBOSITY=verbose")  # fmt: skip
_CONSTRAINT = re.compile(r"^CONSTRAINT NAME:\s+(.*)$", re.M)
_CODED = re.compile(r"(ERROR|FATAL):\s+(\w{5}): .*", re.S)
_COPIED = re.compile(rb"^COPY (\d+)$", re.M)


def _wait_for_both(sender: Child, receiver: Child, poll: Poll) -> None:
    try:
        _wait(sender, receiver, poll)
    except ToolError as error:
        coded = _CODED.search(str(error))
        if coded is None or coded[2][:2] not in QUOTING:
            raise
        named = _CONSTRAINT.search(f"{sender.stderr}\n{receiver.stderr}")
        raise ToolError(_unquoted(coded[2], named[1] if named else None)) from None


def _wait(sender: Child, receiver: Child, poll: Poll) -> None:
    try:
        receiver.wait(poll)
    except ToolError as error:
        # Whoever fails takes the other along: the sender's own reason comes first.
        deadline = time.monotonic() + 1
        with suppress(TimeoutError):
            sender.wait(lambda: _raise_after(deadline), allowed=(0, -signal.SIGPIPE))
        raise error
    sender.wait(poll)


def _raise_after(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError


def _copied(child: Child) -> int:
    found = _COPIED.findall(b"".join(child.read()))
    return int(found[-1]) if found else -1
