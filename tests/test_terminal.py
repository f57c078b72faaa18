"""Where output goes: terminals and pipes of any encoding."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management.base import OutputWrapper

from dbops.management.console import Console
from dbops.wording import counted, grouped


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_wide_rows_fit_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    screen = _Screen()
    console = Console(OutputWrapper(screen), OutputWrapper(_Screen()), as_json=False)
    columns = [f"column_{number}" for number in range(12)]
    row = ["a value of some length"] * 11 + ["x" * 200]
    console.records(columns, [row, row])
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("column_1 ")]) == 2
    assert screen.getvalue().count("a value of some length") == 22
    assert screen.getvalue().count("x") >= 400
    screen.truncate(0)
    console.records(["a", "b"], [["1", "2"]])
    assert "a  b" in screen.getvalue()


def test_one_thing_is_not_told_in_the_plural() -> None:
    assert counted(1, "row") == "1 row"
    assert counted(0, "row") == "0 rows"
    assert counted(2, "table is gone", "tables are gone") == "2 tables are gone"
    assert counted(10_000, "row", write=grouped) == "10,000 rows"
