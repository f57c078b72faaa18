"""Rows from one connection into another, by COPY, never whole in memory."""

from __future__ import annotations

import os
import threading
from typing import IO, cast

import psycopg2
from psycopg2 import sql

from dbops.exceptions import StatementError
from dbops.postgres.connection import Connection, first_line
from dbops.postgres.process import CHUNK, Poll


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

    def send() -> None:
        try:
            with os.fdopen(incoming, "wb", CHUNK) as pipe, source.cursor() as cursor:
                cursor.copy_expert(read, pipe, CHUNK)
        except (psycopg2.Error, BrokenPipeError) as error:
            failures.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        with os.fdopen(outgoing, "rb", CHUNK) as pipe, target.cursor() as cursor:
            checked = cast(IO[bytes], _Checked(pipe, sender, failures, poll))  # read() is all
            cursor.copy_expert(write, checked, CHUNK)
            return int(cursor.rowcount)
    except psycopg2.Error as error:
        poll()  # a signal that came inside read() is reported as the server's error
        raise StatementError(first_line(failures[0] if failures else error)) from error
    finally:
        sender.join()


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
