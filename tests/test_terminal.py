"""Where output goes: terminals and pipes of any encoding."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management.base import OutputWrapper

from dbops.management.console import Console

NAME = "\u05de\u05e8\u05e4\u05d0 \U0001f3e5 \udcff"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_what_an_encoding_does_not_know_is_no_failure(encoding: str) -> None:
    """A name in Hebrew on a terminal in Latin 1, a byte that is no UTF-8 in a variable."""
    written = io.BytesIO()
    out = OutputWrapper(io.TextIOWrapper(written, encoding))
    err = OutputWrapper(io.TextIOWrapper(io.BytesIO(), encoding))
    Console(out, err, as_json=True).result({"result": NAME})
    console = Console(out, err, as_json=False)
    console.say(NAME)
    console.note(NAME)
    console.table(["name"], [[NAME]])
    out.flush()
    first, *rest = written.getvalue().decode(encoding).splitlines()
    assert json.loads(first) == {"result": NAME}
    assert len(rest) == 3
