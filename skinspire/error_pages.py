"""Error pages and mails of errors without secrets, also where DEBUG shows everything else.

Django hides settings by their names. It shows what the process was given (the whole environment,
under runserver) and every local variable, among them a driver's connection string.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator
from types import FrameType
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from skinspire.known import KNOWN
from skinspire.masked import HIDDEN, SHOWN_OPTIONS
from skinspire.variables import env


class Filter(SafeExceptionReporterFilter):
    """Hides local variables by their names, as Django hides settings, whether or not in DEBUG."""

    def get_traceback_frame_variables(
        self, request: HttpRequest | None, tb_frame: FrameType
    ) -> ItemsView[str, Any]:
        """(name, value) of each local variable."""
        found = dict(super().get_traceback_frame_variables(request, tb_frame))
        hidden = filter(self.hidden_settings.search, found)
        return (found | dict.fromkeys(hidden, self.cleansed_substitute)).items()


class Reporter(ExceptionReporter):
    """Takes the secrets this process knows out of the finished page, wherever they stand in it."""

    def get_traceback_html(self) -> SafeString:
        """The page."""
        return mark_safe(without_secrets(super().get_traceback_html()))  # only *** was put in

    def get_traceback_text(self) -> SafeString:
        """The same for a terminal or a mail."""
        return mark_safe(without_secrets(super().get_traceback_text()))


def without_secrets(text: str) -> str:
    """The text with ``***`` for each secret, however it is escaped in it."""
    forms = {
        form
        for secret in _secrets()
        for plain in (secret, repr(secret)[1:-1], quote(secret, ""))
        for form in (plain, escape(plain))
    }
    words = "|".join(re.escape(it) for it in sorted(filter(None, forms), key=len, reverse=True))
    # By whole words: a password "postgres" is not to eat up every "postgresql".
    return re.sub(rf"(?<!\w)(?:{words})(?!\w)", HIDDEN, text) if words else text


def _secrets() -> Iterator[str]:
    """What is secret, as it was given and as it was understood."""
    for variable in KNOWN:
        if variable.secret:
            yield env.read.get(variable.name, "")
            yield env.ENVIRON.get(variable.name, "")
    for database in settings.DATABASES.values():
        yield str(database.get("PASSWORD") or "")
        options: dict[str, Any] = database.get("OPTIONS") or {}
        yield from (
            str(value)
            for name, value in options.items()
            if isinstance(value, str) and name not in SHOWN_OPTIONS | {"init_command"}
        )
    yield str(settings.SECRET_KEY)
    yield from map(str, settings.SECRET_KEY_FALLBACKS)
