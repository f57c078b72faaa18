"""The sliding window over a plain SQL dump: what is read, where lines are, where quotes end."""

from __future__ import annotations

import re
from typing import IO, NoReturn

from dbops.exceptions import ForeignDumpError

CHUNK = 256 * 1024
MAX_STATEMENT = 256 * 1024 * 1024

DUMP_HINT = (
    "Make the dump with `pg_dump --format=custom`, or with pg_dump of one database without --create"
)
TRUNCATED_HINT = "Copy the file again, or make the dump again"

# Bytes from 0x80 on are letters to PostgreSQL; `$` continues an identifier but not a tag.
_TOKEN = re.compile(
    rb"""
      (?P<escape>[eE]')
    | (?P<word>[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)
    | (?P<number>\$?[0-9][A-Za-z0-9_.\x80-\xff]*)
    | (?P<string>')
    | (?P<quoted>")
    | (?P<dollar>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$?)
    | (?P<remark>--)
    | (?P<block>/\*)
    | (?P<parenthesis>[()])
    | (?P<semicolon>;)
    | (?P<meta>\\)
    """,
    re.VERBOSE,
)
# What a data row is mostly made of, for one leap over it: no token in it can end a statement, open
# a parenthesis or start a comment, and every quote in it is closed and knows no escapes.
# The group itself is not possessive: Python before 3.11.5 goes astray there (its issue 106052).
_PLAIN = re.compile(
    rb"""(?:
      [ \t\r\n,.=+*:]++
    | [A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+(?!')
    | [0-9][A-Za-z0-9_.\x80-\xff]*+(?!['$])
    | -(?!-)
    | '[^']*+'
    )*""",
    re.VERBOSE,
)
_ESCAPED_EDGE = re.compile(rb"['\\]")
_BLOCK_EDGE = re.compile(rb"/\*|\*/")
_META_NAME = re.compile(rb"\\(?:[A-Za-z_]{1,40}|[!-~])?")
# PostgreSQL ends a `--` comment at a lone carriage return as well.
_LINE_END = re.compile(rb"[\r\n]")


def truncated(name: str, where: str) -> ForeignDumpError:
    return ForeignDumpError(f"{name} is truncated: it ends {where}.", hint=TRUNCATED_HINT)


class ScriptSource:
    """A window ``buffer`` whose bytes from ``base`` on are still to be read.

    Positions are indexes into the buffer: reading on keeps them, only ``advance`` moves them.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name
        self.bytes_read = 0
        self.finished = False
        self.buffer = bytearray()
        self.base = 0
        self._stream = stream
        self._line = 1

    def start(self) -> None:
        self.more()
        if self.buffer.startswith(b"\xef\xbb\xbf"):
            del self.buffer[:3]

    def line(self, at: int) -> int:
        return self._line + self.buffer.count(b"\n", self.base, at)

    def fail(self, at: int, problem: str, hint: str = DUMP_HINT) -> NoReturn:
        raise ForeignDumpError(f"Line {self.line(at)} of {self.name} {problem}.", hint=hint)

    def fail_meta(self, at: int) -> NoReturn:
        name = _META_NAME.match(self.buffer, at)
        shown = name.group().decode() if name else ""
        self.fail(at, f"holds the psql meta-command {shown}, which is never run")

    def more(self) -> None:
        """Read on; the growing portions keep the rescans of one long token linear."""
        held = len(self.buffer) - self.base
        if held > MAX_STATEMENT:
            self.fail(self.base, "starts a statement of more than 256 MB, which is not restored")
        chunk = self._stream.read(min(max(CHUNK, held), MAX_STATEMENT + 1 - held))
        self.finished = not chunk
        self.bytes_read += len(chunk)
        self.buffer += chunk
        if (nul := chunk.find(b"\0")) >= 0:
            at = len(self.buffer) - len(chunk) + nul
            self.fail(at, "holds a NUL byte, so the file is no plain SQL dump")

    def more_inside(self, start: int, what: str) -> None:
        """Read on, as what starts at `start` has not ended yet."""
        if self.finished:
            raise truncated(self.name, f"inside {what} that starts on line {self.line(start)}")
        self.more()

    def advance(self, at: int) -> None:
        """Let go of what is before `at`, all but one byte: the end of COPY data looks back."""
        self._line = self.line(at)
        self.base = at
        if at > CHUNK:
            del self.buffer[: at - 1]
            self.base = 1

    def take(self, size: int) -> bytes:
        data = bytes(self.buffer[self.base : self.base + size])
        self.advance(self.base + len(data))
        return data

    def next_token(self, at: int) -> re.Match[bytes] | None:
        """A token is believed only with two bytes of sight behind it, or at the end of the file."""
        while True:
            token = _TOKEN.search(self.buffer, at)
            if self.finished or (token and token.end() + 2 <= len(self.buffer)):
                return token
            # A lone `-` or `/` at the end of the buffer may be half the start of a comment.
            at = token.start() if token else max(at, len(self.buffer) - 1)
            self.more()

    def past_plain(self, at: int) -> tuple[int, bool]:
        """Where the plain part ends, and whether enough of the buffer follows to be sure of it."""
        plain = _PLAIN.match(self.buffer, at)
        end = plain.end() if plain else at
        return end, self.finished or end + 2 <= len(self.buffer)

    def end_of_remark(self, at: int) -> int:
        while not (end := _LINE_END.search(self.buffer, at)) and not self.finished:
            at = len(self.buffer)
            self.more()
        return end.start() if end else len(self.buffer)

    def end_of_block(self, start: int) -> int:
        at, depth = start + 2, 1
        while depth:
            edge = _BLOCK_EDGE.search(self.buffer, at)
            if edge:
                depth += 1 if edge.group() == b"/*" else -1
                at = edge.end()
            else:
                at = max(at, len(self.buffer) - 1)
                self.more_inside(start, "a comment")
        return at

    def end_of_quote(self, start: int, delimiter: bytes) -> int:
        """A doubled quote inside reads as two neighbours, which changes nothing for the cut."""
        at = start + len(delimiter)
        while (end := self.buffer.find(delimiter, at)) < 0:
            at = max(at, len(self.buffer) - len(delimiter) + 1)
            self.more_inside(start, "a quoted text")
        return end + len(delimiter)

    def end_of_escaped(self, start: int, at: int) -> int:
        """The end of a literal in which a backslash takes the meaning from the next byte."""
        while True:
            edge = _ESCAPED_EDGE.search(self.buffer, at)
            if not edge:
                at = max(at, len(self.buffer))
                self.more_inside(start, "a quoted text")
            elif edge.group() == b"'":
                return edge.end()
            else:
                at = edge.end() + 1


class CopyData:
    """The data of one COPY block, as a file; it ends before the line that holds only ``\\.``."""

    def __init__(self, source: ScriptSource, line: int) -> None:
        self._source = source
        self._line = line
        self._ready = 0
        self._marker = 0

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        while not self._ready and not self._marker:
            self._look_ahead()
        data = self._source.take(min(size, self._ready))
        self._ready -= len(data)
        return data

    def finish(self) -> None:
        """Drain what the consumer left and step over the end marker."""
        while self.read(CHUNK):
            pass
        self._source.take(self._marker)

    def _look_ahead(self) -> None:
        """Tell how many bytes are surely data, reading on only when none are."""
        source = self._source
        self._ready = self._data_before_marker()
        if self._ready or self._marker:
            return
        if source.finished:
            raise truncated(source.name, f"inside the data of the COPY on line {self._line}")
        source.more()

    def _data_before_marker(self) -> int:
        buffer, base = self._source.buffer, self._source.base
        # The byte before `base` is still there, so a marker on the very first line is found too.
        at = base - 1
        while (found := buffer.find(b"\n\\.", at)) >= 0:
            tail = bytes(buffer[found + 3 : found + 5])
            if tail[:1] == b"\n" or tail == b"\r\n" or (self._source.finished and tail in b"\r"):
                self._marker = 2 + (1 if tail[:1] == b"\n" else len(tail))
                return found + 1 - base
            if tail in b"\r":
                return found + 1 - base
            at = found + 1
        return len(buffer) - base - (1 if buffer.endswith(b"\n\\") else 0)
