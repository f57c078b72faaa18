"""Cuts a plain SQL dump into statements and COPY blocks, as PostgreSQL's own scanner would.

Where two server versions read the same bytes differently, the dump is refused rather than guessed
at: what is judged here as one statement has to be one statement for the server, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from dbops.exceptions import ForeignDumpError
from dbops.postgres.script_source import CHUNK, DUMP_HINT, CopyData, ScriptSource, truncated

UTF8_HINT = "Make the dump with `pg_dump --encoding=UTF8`"
# Far above a COPY of the 1600 columns a table can have, far below what would fill the memory.
MAX_TOKENS = 100_000
LONGEST_NAME = 200

# E'a' <newline> 'b' is one literal with escapes in both parts; so are the parts around ''.
_CONTINUED = re.compile(
    rb"(?:(?:[ \t\f\v]|--[^\r\n]*+)*[\r\n](?:[ \t\r\n\f\v]|--[^\r\n]*+[\r\n])*)?"
)
_RESTRICT = re.compile(rb"\\(?:un)?restrict[ \t]+[A-Za-z0-9]{1,1000}[ \t]*\r?(?:\n|\Z)")
_COPY_LINE_REST = re.compile(rb"[ \t\f\v]*(?:--[^\r\n]*)?\r?\n")
_NOTE = re.compile(
    r"-- (?:PostgreSQL database (?P<dump>cluster dump|dump complete|dump)"
    r"|Dumped (?P<origin>from database|by pg_dump) version (?P<version>.{1,100}))\s*"
)
_ROUTINE = re.compile(rb"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) ")
_COPY_FROM_STDIN = re.compile(
    r"COPY (?:BINARY )?[^ (]+(?: \. [^ (]+)*(?: \( [^()]* \))? FROM STDIN(?: |$)"
)
_READING_SETTING = re.compile(
    r'SET (?:SESSION |LOCAL )?(?:"?(standard_conforming_strings|client_encoding)"? (?:=|TO)|NAMES)'
    r"(?: '?([\w-]+))?",
    re.IGNORECASE,
)
_READABLE = {
    "standard_conforming_strings": {"on", "true", "yes", "1"},
    "client_encoding": {"utf8", "utf-8", "unicode"},
}
_BLUR = re.compile(rb"[\s(),;.]")


@dataclass(frozen=True)
class Statement:
    """One SQL statement, from its first token to its semicolon."""

    text: str
    line: int
    head: str = field(default="", repr=False)
    """Its tokens parted by single blanks: words in capitals, no comments, long quotes cut short.

    Of an INSERT only the first word: nothing is judged by the rest.
    """


@dataclass(frozen=True)
class CopyBlock:
    """``COPY ... FROM stdin`` and the data that follows it."""

    sql: str
    line: int
    data: CopyData


def read_script(stream: IO[bytes], name: str = "the dump") -> Iterator[Statement | CopyBlock]:
    """The statements and COPY blocks of a dump; raises at the first psql meta-command."""
    return ScriptLexer(stream, name).items()


class ScriptLexer:
    """One pass over one dump; ``notes`` fills with what pg_dump's own comments say."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.source = ScriptSource(stream, name)
        self.notes: dict[str, str] = {}
        self._own_line = True

    def items(self) -> Iterator[Statement | CopyBlock]:
        """Every statement in order; a COPY block's data is gone once the next item is asked for."""
        self.source.start()
        while self._skip_to_statement():
            statement = _StatementReader(self.source).read()
            self._own_line = False
            self._require_readable(statement)
            if _COPY_FROM_STDIN.match(statement.head):
                yield from self._copy_block(statement)
            else:
                yield statement

    def _skip_to_statement(self) -> bool:
        """Stand on the next statement's first byte; False at the end of the file."""
        source = self.source
        steps: dict[str, Callable[[int], None]] = {
            "remark": self._skip_remark,
            "block": self._skip_block,
            "semicolon": self._skip_semicolon,
            "meta": self._skip_restrict,
        }
        while token := source.next_token(source.base):
            step = steps.get(token.lastgroup or "")
            # Punctuation before a comment belongs to a statement: nothing is dropped unseen.
            if step is None or source.buffer[source.base : token.start()].strip():
                break
            step(token.start())
        rest = source.buffer[source.base : token.end() if token else None]
        source.advance(source.base + len(rest) - len(rest.lstrip()))
        return bool(rest.strip())

    def _skip_block(self, start: int) -> None:
        self._own_line = False
        self.source.advance(self.source.end_of_block(start))

    def _skip_semicolon(self, start: int) -> None:
        self._own_line = False
        self.source.advance(start + 1)

    def _skip_remark(self, start: int) -> None:
        end = self.source.end_of_remark(start)
        remark = self.source.buffer[start : min(end, start + 200)].decode("utf-8", "replace")
        if note := _NOTE.fullmatch(remark):
            self._take_note(note)
        self._own_line = False
        self.source.advance(end)

    def _take_note(self, note: re.Match[str]) -> None:
        if note["dump"] == "cluster dump":
            raise ForeignDumpError(
                f"{self.source.name} is a pg_dumpall dump of a whole server; only the dump of one"
                " database is restored.",
                hint=DUMP_HINT,
            )
        if note["dump"]:
            self.notes["dump"] = note["dump"]
        else:
            self.notes[note["origin"]] = note["version"].strip()

    def _skip_restrict(self, at: int) -> None:
        """pg_dump fences a dump with these two; only to psql do they mean anything."""
        source = self.source
        while source.buffer.find(b"\n", at) < 0 and len(source.buffer) - at < CHUNK:
            if source.finished:
                break
            source.more()
        line = _RESTRICT.match(source.buffer, at)
        if not line or not (self._own_line or b"\n" in source.buffer[source.base : at]):
            source.fail_meta(at)
        source.advance(line.end())
        self._own_line = True

    def _require_readable(self, statement: Statement) -> None:
        setting = _READING_SETTING.match(statement.head)
        if not setting:
            return
        name, value = (setting[1] or "client_encoding").lower(), setting[2] or "nothing"
        if value.lower() not in _READABLE[name]:
            raise ForeignDumpError(
                f"Line {statement.line} of {self.source.name} sets {name} to {value}; only UTF-8"
                " text with standard strings is read.",
                hint=UTF8_HINT if name == "client_encoding" else DUMP_HINT,
            )

    def _copy_block(self, statement: Statement) -> Iterator[CopyBlock]:
        source = self.source
        while source.buffer.find(b"\n", source.base) < 0:
            if source.finished:
                where = f"before the data of the COPY on line {statement.line}"
                raise truncated(source.name, where)
            source.more()
        rest = _COPY_LINE_REST.match(source.buffer, source.base)
        if not rest:
            source.fail(source.base, "goes on after a COPY whose data starts on the next line")
        source.advance(rest.end())
        data = CopyData(source, statement.line)
        yield CopyBlock(statement.text, statement.line, data)
        data.finish()
        self._own_line = True


class _StatementReader:
    """The state of one statement while it is read."""

    def __init__(self, source: ScriptSource) -> None:
        self._source = source
        self._start = self._mark = source.base
        self._tokens: list[bytes] = []
        self._noting = True
        self._depth = 0
        self._in_body = False
        self._escaped_end = -1
        self._unsure = 0

    def read(self) -> Statement:
        source, at = self._source, self._start
        while token := source.next_token(self._past_plain(at)):
            kind = token.lastgroup or ""
            at = _STEPS[kind](self, token.start(), token.end())
            if kind == "semicolon" and not self._depth and not self._in_body:
                return self._finish(at)
        if self._depth or self._in_body:
            source.more_inside(self._start, "a statement")
        self._flush(len(source.buffer))
        return self._finish(len(source.buffer))

    def _past_plain(self, at: int) -> int:
        if self._noting or self._escaped_end >= 0 or at < self._unsure:
            return at
        end, sure = self._source.past_plain(at)
        # What was looked at in vain is not looked at again, or a long row would cost its square.
        self._unsure = 0 if sure else end
        return end if sure else at

    def _finish(self, end: int) -> Statement:
        source = self._source
        line = source.line(self._start)
        try:
            text = source.buffer[self._start : end].decode("utf-8")
        except UnicodeDecodeError as error:
            source.fail(self._start + error.start, "is not UTF-8 text", UTF8_HINT)
        source.advance(end)
        return Statement(text, line, b" ".join(self._tokens).decode("utf-8", "replace"))

    def _flush(self, start: int) -> None:
        """Note the punctuation since the token before."""
        if self._noting and start > self._mark:
            self._tokens += bytes(self._source.buffer[self._mark : start]).split()

    def _note(self, start: int, end: int, shown: bytes) -> int:
        self._escaped_end = -1
        if self._noting:
            self._flush(start)
            self._tokens.append(shown)
            self._mark = end
            self._noting = self._tokens[0] != b"INSERT" and len(self._tokens) < MAX_TOKENS
        return end

    def _remark(self, start: int, end: int) -> int:
        return self._comment(start, self._source.end_of_remark(end))

    def _block(self, start: int, end: int) -> int:
        return self._comment(start, self._source.end_of_block(start))

    def _comment(self, start: int, end: int) -> int:
        self._flush(start)
        self._mark = end
        return end

    def _word(self, start: int, end: int) -> int:
        if not self._noting:
            return self._note(start, end, b"")
        word = bytes(self._source.buffer[start:end]).upper()
        self._flush(start)
        self._mark = start
        if not self._depth:
            self._track_body(word, self._tokens[-1] if self._tokens else b"")
        return self._note(start, end, word)

    def _track_body(self, word: bytes, before: bytes) -> None:
        """A body's END follows a semicolon, which the END of a CASE never can: exact, uncounted."""
        if word == b"ATOMIC" and before == b"BEGIN":
            self._in_body = _ROUTINE.match(b" ".join(self._tokens[:5])) is not None
        elif word == b"END" and before in (b";", b"ATOMIC"):
            self._in_body = False

    def _number(self, start: int, end: int) -> int:
        # Before PostgreSQL 15 `1a$b$` was a number and a name, later it is an error.
        if self._source.buffer[end : end + 1].startswith((b"'", b"$")):
            self._source.fail(start, "holds a number that runs into a quote")
        return self._note(start, end, bytes(self._source.buffer[start:end]))

    def _escape(self, start: int, end: int) -> int:
        self._escaped_end = self._quote(start, self._source.end_of_escaped(start, end))
        return self._escaped_end

    def _string(self, start: int, end: int) -> int:
        before = self._escaped_end
        if before >= 0 and _CONTINUED.fullmatch(self._source.buffer, before, start):
            return self._escape(start, end)
        return self._quote(start, self._source.end_of_quote(start, b"'"))

    def _quoted(self, start: int, end: int) -> int:
        return self._quote(start, self._source.end_of_quote(start, b'"'))

    def _quote(self, start: int, end: int) -> int:
        shown = _BLUR.sub(b"_", bytes(self._source.buffer[start : min(end, start + 80)]))
        last = self._tokens[-1] if self._noting and self._tokens and start == self._mark else b""
        # `"a""b"` comes as two neighbours and is one name.
        if last and last.endswith(shown[:1]) and len(last) < LONGEST_NAME:
            shown = self._tokens.pop() + shown
        return self._note(start, end, shown)

    def _dollar(self, start: int, end: int) -> int:
        tag = bytes(self._source.buffer[start:end])
        if len(tag) < 2 or not tag.endswith(b"$"):
            self._source.fail(start, "holds a $ that starts neither a quote nor a parameter")
        return self._note(start, self._source.end_of_quote(start, tag), b"$$")

    def _parenthesis(self, start: int, end: int) -> int:
        opens = self._source.buffer[start:end] == b"("
        self._depth = self._depth + 1 if opens else max(self._depth - 1, 0)
        return self._note(start, end, b"(" if opens else b")")

    def _semicolon(self, start: int, end: int) -> int:
        if self._depth or self._in_body:
            return self._note(start, end, b";")
        self._flush(start)
        return end

    def _meta(self, start: int, end: int) -> int:
        self._source.fail_meta(start)


_STEPS = {
    "escape": _StatementReader._escape,
    "word": _StatementReader._word,
    "number": _StatementReader._number,
    "string": _StatementReader._string,
    "quoted": _StatementReader._quoted,
    "dollar": _StatementReader._dollar,
    "remark": _StatementReader._remark,
    "block": _StatementReader._block,
    "parenthesis": _StatementReader._parenthesis,
    "semicolon": _StatementReader._semicolon,
    "meta": _StatementReader._meta,
}
