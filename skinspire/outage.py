"""A database that is away: a page that says so and tries again, never a traceback."""

from __future__ import annotations

import logging
import re
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import psycopg2
from django.core.signals import got_request_exception
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import add_never_cache_headers

from skinspire.problems import API, answer
from skinspire.router import CONTROL_APPS

RETRY_SECONDS = 10
_NOTED = "_skinspire_outage"
# The server goes, is not there yet, was dropped, or has no connection left; connection exceptions.
_CODES = {"57P01", "57P02", "57P03", "57P04", "57P05", "53300"}
_CONNECTION_CLASS = "08"
_SQLITE_AWAY = (
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_CANTOPEN",
    "SQLITE_IOERR",
    "SQLITE_PROTOCOL",
    "SQLITE_READONLY_DBMOVED",
)
# A file that was removed is made anew, and empty, by whoever opens it next.
_EMPTY = re.compile(rf"no such table: (?:main\.)?(?:{'|'.join(sorted(CONTROL_APPS))})_")
logger = logging.getLogger("skinspire.outage")


def is_outage(error: BaseException | None) -> bool:
    """Whether a database is away or busy, as opposed to a statement that it refused."""
    if not isinstance(error, (OperationalError, InterfaceError)):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        return is_empty_control(error) or str(getattr(cause, "sqlite_errorname", "")).startswith(
            _SQLITE_AWAY
        )
    if not isinstance(cause, psycopg2.Error):
        return False
    code = cause.pgcode
    if code is None:  # from libpq itself; "cursor already closed" would be a mistake of ours
        return isinstance(cause, psycopg2.OperationalError) or "connection" in str(cause)
    return code in _CODES or code.startswith(_CONNECTION_CLASS)


def is_empty_control(error: BaseException) -> bool:
    """Whether the control database is a file without any of our tables."""
    return bool(_EMPTY.match(str(error)))


class OutageMiddleware:
    """Stands outside everything that asks a database, and inside what puts headers on answers."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        # What another middleware raised is a 500 by the time it gets here.
        return unavailable(request) if hasattr(request, _NOTED) else response

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What a view raised."""
        if not is_outage(exception):
            return None
        logger.error("%s", _line(exception))
        return unavailable(request)


def _note(request: HttpRequest | None = None, **kwargs: Any) -> None:
    if request is not None and is_outage(sys.exc_info()[1]):
        setattr(request, _NOTED, True)


got_request_exception.connect(_note, dispatch_uid="skinspire.outage")


def unavailable(request: HttpRequest) -> HttpResponse:
    """503, by a page or, of the API, as RFC 9457 has it. Asks neither a database nor a session."""
    response: HttpResponse
    if request.path_info.startswith(API):
        response = answer(503, f"A database does not answer. Try again in {RETRY_SECONDS} seconds.")
    else:
        context = {"seconds": RETRY_SECONDS, "asked": request.method in ("GET", "HEAD")}
        response = HttpResponse(render_to_string("503.html", context), status=503)
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    add_never_cache_headers(response)
    return response


class OneLineOutages(logging.Filter):
    """An outage in the log is one line: where in our code it was noticed says nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and is_outage(error):
            record.msg, record.args = f"{record.getMessage()}: {_line(error)}", ()
            record.exc_info = record.exc_text = None
        return True


def _line(error: BaseException) -> str:
    line = " ".join(str(error).split())
    if is_empty_control(error):
        return f"The control database is empty ({line}): python manage.py migrate"
    return line
