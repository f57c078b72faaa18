"""Arguments that nobody could mean, for every command and every place of it that takes a word."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from tests.test_examples import COMMANDS, OTHERS, command_class

pytestmark = pytest.mark.django_db(databases=["default", "control", "test", "prod"])
OURS = [name for name in COMMANDS if name not in OTHERS]
# Right to left, a line break, an escape sequence, and letters of two alphabets.
UNICODE = "\u202eпациенты\n\x1b[31m表😀'\"$$;="


def _places(name: str) -> Iterator[tuple[str, argparse.Action, list[argparse.Action]]]:
    """Every argument that takes a word: a label, itself, and the positional ones."""
    parser = command_class(name)().create_parser("manage.py", name)
    django_own = {"settings", "pythonpath", "verbosity"}
    positional = [it for it in parser._actions if not it.option_strings]
    for action in parser._actions:
        if action.nargs != 0 and action.dest not in django_own:
            yield f"{name}-{action.dest}", action, positional


# Any word may be meant there, or it is asked for only on the way into a protected environment.
FREE = {
    ("dbbackup", "servername"), ("dbbackup", "output_filename"), ("dbbackup", "output_path"),
    ("dbbackup", "exclude_tables"), ("copy_db", "confirm"), ("switch_env", "confirm"),
    ("undo_operation", "confirm"), ("dbrestore", "confirm"), ("create_migration", "message"),
}  # fmt: skip
PLACES = [
    (label, name, action, positional)
    for name in OURS
    for label, action, positional in _places(name)
    if (name, action.dest) not in FREE and action.dest != "actor"  # test_acting.py has that one
]


def _line(action: argparse.Action, positional: list[argparse.Action], word: str) -> list[str]:
    """A call with ``word`` in that place, and something sensible where it has to be."""
    words = []
    for it in positional:
        needed = it.nargs in (None, "+") or isinstance(it.nargs, int)
        if it is action:
            words.append(word)
            break
        if needed:
            words.append(next(iter(it.choices)) if it.choices else "dev")
    option = [f"{action.option_strings[-1]}={word}"] if action.option_strings else []
    if not action.option_strings:
        words.insert(-1, "--")
    elif action.dest == "confirm":
        words = ["--env=prod"]
    return [*option, *words]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """A command in this process, as the shell calls it: its exit code, its output, its errors."""
    monkeypatch.setattr(connections, "close_all", lambda: None)

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            command_class(name)().run_from_argv(["manage.py", name, *arguments])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("word", ["a\0b", "x" * 10_000_000], ids=["NUL", "10 MB"])
def test_what_no_argument_can_be(run: Any, name: str, word: str) -> None:
    """Fault 49: NUL, and ten megabytes, as a word of its own and as an option's."""
    for arguments in ([word], [f"--env={word}"], ["-d", word], [word, "--json"]):
        code, out, err = run(name, *arguments)
        assert code == 2
        assert err.startswith("Error: An argument ")
        assert len(err) < 300
        assert not out or json.loads(out)["error"]["code"] == "usage"


@pytest.mark.parametrize(
    ("name", "action", "positional"), [it[1:] for it in PLACES], ids=[it[0] for it in PLACES]
)
@pytest.mark.parametrize("word", [UNICODE, "nowhere", ""], ids=["Unicode", "unknown", "empty"])
def test_words_that_mean_nothing(
    run: Any, name: str, action: argparse.Action, positional: list[argparse.Action], word: str
) -> None:
    """Fault 49: Unicode, an unknown environment, nothing at all; in every place there is."""
    code, out, err = run(name, *_line(action, positional, word))
    assert code in (1, 2), (out, err)
    assert "Traceback" not in err
    told = [
        line for line in err.splitlines() if line.startswith(("Error: ", "manage.py ", "usage"))
    ]
    assert told, err
