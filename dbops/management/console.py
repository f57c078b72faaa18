"""Standard output for results, standard error for the rest; colour and bars on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any

import humanize
from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from dbops.exceptions import DbopsError
from dbops.operations.context import Listener

# Names are shown as they are, also those that hold "[/b]" or ":smile:".
_PLAIN: Any = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
_PIPE_WIDTH = 1000
_MANY_ROWS = 300


class Console:
    """Where a command speaks. Under ``as_json`` standard output holds one object and no more."""

    def __init__(self, stdout: Any, stderr: Any, *, as_json: bool) -> None:
        self._stdout = stdout
        for stream in (stdout._out, stderr._out):
            if isinstance(stream, TextIOWrapper):  # a name may not be a word in its encoding
                stream.reconfigure(errors="backslashreplace")
        self._err = RichConsole(file=stderr._out, stderr=True, **_PLAIN)
        self._out = RichConsole(file=stdout._out, **_PLAIN)
        if not self._out.is_terminal:
            self._out.width = _PIPE_WIDTH  # whoever reads a pipe wants whole names
        self.as_json = as_json

    def result(self, content: Mapping[str, Any]) -> None:
        """The one JSON object."""
        text = json.dumps(content, default=str, ensure_ascii=False)
        try:
            text.encode(getattr(self._stdout._out, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            text = json.dumps(content, default=str)
        self._stdout.write(text)

    def say(self, text: str, style: str | None = None) -> None:
        """A line of the readable answer."""
        self._out.print(text, style=style, markup=False)

    def note(self, text: str, style: str | None = None) -> None:
        """A line that is no answer: progress, hints, questions."""
        self._err.print(text, style=style, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under headings; on a pipe, plain columns."""
        if len(rows) > _MANY_ROWS:
            self._plain_table(columns, rows)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._out.print(table, crop=False)

    def records(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows under headings where the terminal is wide enough for whole values; where it is not,
        each row with one column below another."""
        widths = [max(map(cell_len, cells)) for cells in zip(columns, *rows, strict=True)]
        if sum(widths) + 2 * (len(widths) - 1) <= self._out.width:
            self.table(columns, rows)
            return
        for number, row in enumerate(rows):
            table = Table(box=None, pad_edge=False, show_header=False, width=self._out.width)
            table.add_column(style="bold", overflow="fold", max_width=self._out.width // 2)
            table.add_column(overflow="fold", ratio=1)
            for cells in zip(columns, row, strict=True):
                table.add_row(*cells)
            if number:
                self.say("")
            self._out.print(table, crop=False)

    def _plain_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Thousands of rows: laying them out would take longer than finding them."""
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._stdout.write("  ".join(cells).rstrip())

    def error(self, error: DbopsError) -> None:
        """One line with the cause, one with the next command; under JSON also the object."""
        if self.as_json:
            self.json_error(error.code, str(error), error.hint, error.result)
        self.note(f"Error: {_one_line(str(error))}", style="bold red")
        if error.hint:
            self.note(f"Hint: {error.hint}", style="yellow")

    def json_error(
        self, code: str, message: str, hint: str, result: Mapping[str, Any] | None = None
    ) -> None:
        """The one JSON object of a failure."""
        content: dict[str, Any] = {"error": {"code": code, "message": message, "hint": hint}}
        self.result(content if result is None else content | {"result": dict(result)})

    def ask(self, question: str) -> bool:
        """Yes only if the answer is yes."""
        self._err.print(f"{question} [y/N] ", end="", markup=False)
        try:
            return input().strip().lower() in ("y", "yes")
        except EOFError:
            return False

    @contextmanager
    def progress(self) -> Iterator[Listener]:
        """A listener for an operation: a bar on a terminal, a line per step elsewhere."""
        if not self._err.is_terminal:
            yield self._plain_listener()
            return
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False), TimeElapsedColumn(),
            console=self._err, transient=True,
        ) as bar:  # fmt: skip
            yield _bar_listener(bar)

    def _plain_listener(self) -> Listener:
        seen: list[str] = []

        def listen(label: str, done: int | None, total: int | None) -> None:
            if label not in seen[-1:]:
                seen.append(label)
                self.note(f"  {label}")

        return listen


def _bar_listener(bar: Progress) -> Listener:
    task = bar.add_task("", total=None, amount="")
    shown = {"label": ""}

    def listen(label: str, done: int | None, total: int | None) -> None:
        if label != shown["label"]:
            shown["label"] = label
            bar.reset(task, description=label, total=total, amount="")
        if done is not None:
            bar.update(task, completed=done, total=total, amount=size(done))

    return listen


def size(count: int) -> str:
    """Bytes for people."""
    return humanize.naturalsize(count, binary=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())
