"""The only place that starts a child process.

Arguments are a list and never hold a password: it travels in a passfile that exists only in
memory, so neither ``ps`` nor ``/proc/<pid>/environ`` shows it and ``kill -9`` leaves no file.
Every child leads its own process group and dies with us; its standard error is kept and is what
an error message says.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from dbops.exceptions import ToolError
from dbops.postgres.params import ConnectionParams

Poll = Callable[[], None]
"""Called while we wait; raises when the operation is cancelled."""

CHUNK = 1 << 18
"""Bytes moved at once between a child and us."""
_POLL_SECONDS = 0.2
_STDERR_LINES = 200
_INHERITED = {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def do_not_poll() -> None:
    """A :data:`Poll` for work that nobody can cancel."""


@contextmanager
def passfile(password: str) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
    """Environment and file descriptors through which libpq finds ``password``.

    Where the system has it this is an anonymous memory file; elsewhere a 0600 temporary file.
    """
    if not password:
        yield {}, ()
        return
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    with memory_file(f"*:*:*:*:{escaped}\n".encode()) as (path, descriptors):
        yield {"PGPASSFILE": path}, descriptors


@contextmanager
def memory_file(content: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A file for a child to read: its path, and the descriptors to pass to the child.

    Where the system has it this is an anonymous memory file; elsewhere a 0600 temporary file.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("skinspire", 0)
        try:
            os.fchmod(descriptor, 0o600)  # libpq takes no password from a file others may read
            with open(descriptor, "wb", closefd=False) as memory:
                memory.write(content)
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(prefix="skinspire") as file:  # mkstemp gives 0600
        file.write(content)
        file.flush()
        yield file.name, ()


@dataclass(frozen=True)
class RunAs:
    """The account a child runs as; used to drop root for the embedded server."""

    uid: int
    gid: int


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _child_environment(params: ConnectionParams | None) -> dict[str, str]:
    # Not ours as it is: it may hold database URLs, which every account that may read
    # /proc/<pid>/environ would see, and a PGOPTIONS or PGSERVICE would redirect the tool.
    inherited = {key: value for key, value in os.environ.items() if key in _INHERITED}
    environment = inherited | {"LC_MESSAGES": "C", "PGCONNECT_TIMEOUT": "10"}
    return environment | (params.libpq_environment() if params else {})


def widen(*pipes: IO[bytes] | int | None) -> None:
    """Room for several chunks, where the system allows: fewer turns between two ends."""
    for pipe in pipes:
        if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # beyond what this account may have
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4 * CHUNK)


class Child:
    """One running tool. Leaving the ``with`` block ends its whole process group."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        params: ConnectionParams | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
        run_as: RunAs | None = None,
        cwd: Path | None = None,
        descriptors: tuple[int, ...] = (),
    ) -> None:
        self.name = Path(argv[0]).name
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        password = params.password if params else ""
        with passfile(password) as (password_environment, passed):
            self._process = subprocess.Popen(
                [str(argument) for argument in argv],
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env=_child_environment(params) | password_environment | dict(environment or {}),
                pass_fds=(*passed, *descriptors),
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (async-signal-safe: one prctl call)
                user=run_as.uid if run_as else None,
                group=run_as.gid if run_as else None,
                extra_groups=[] if run_as else None,
                cwd=cwd,
            )
        widen(self._process.stdin, self._process.stdout)
        self._reader = threading.Thread(target=self._keep_stderr, daemon=True)
        self._reader.start()

    def _keep_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._stderr.append(line.decode("utf-8", "replace").rstrip())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        """The last lines of standard error."""
        return "\n".join(self._stderr)

    @property
    def cause(self) -> str:
        """The line of standard error that says why, without the tool's own prefix."""
        lines = [line for line in self._stderr if line.strip()]
        telling = [line for line in lines if "error:" in line.lower() or "fatal:" in line.lower()]
        line = (telling or lines or ["no message"])[0]
        for prefix in (f"{self.name}: error: ", f"{self.name}: "):
            line = line.removeprefix(prefix)
        return line

    def read(self, poll: Poll = do_not_poll) -> Iterator[bytes]:
        """Chunks of standard output until it ends; ``poll`` is called while we wait."""
        stdout = self._process.stdout
        assert stdout is not None
        descriptor = stdout.fileno()
        while True:
            poll()
            if select.select([descriptor], [], [], _POLL_SECONDS)[0]:
                chunk = os.read(descriptor, CHUNK)
                if not chunk:
                    return
                yield chunk

    def write(self, chunks: Iterator[bytes], poll: Poll = do_not_poll) -> None:
        """Feed standard input and close it. A child that ended early is not an error here:
        its exit code and message, which :meth:`wait` raises, say more than a broken pipe."""
        stdin = self._process.stdin
        assert stdin is not None
        os.set_blocking(stdin.fileno(), False)
        try:
            with suppress(BrokenPipeError):
                for chunk in chunks:
                    self._write_all(stdin.fileno(), memoryview(chunk), poll)
        finally:
            # Also when the source failed: a child left waiting for more would wait for ever.
            with suppress(BrokenPipeError):
                stdin.close()

    def convert(self, chunks: Iterable[bytes], poll: Poll = do_not_poll) -> Iterator[bytes]:
        """Chunks of standard output while standard input is fed from ``chunks``, without a thread.
        As with :meth:`write`, why a child ended early is told by :meth:`wait`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        os.set_blocking(stdin.fileno(), False)
        stream, view = filter(None, chunks), memoryview(b"")
        while True:
            poll()
            hungry = [] if stdin.closed else [stdin]
            readable, writable, _ = select.select([stdout], hungry, [], _POLL_SECONDS)
            if readable:
                chunk = os.read(stdout.fileno(), CHUNK)
                if not chunk:
                    return
                yield chunk
            if writable:
                view = view or memoryview(next(stream, b""))
                try:
                    written = os.write(stdin.fileno(), view[:CHUNK])
                except BrokenPipeError:
                    written = 0
                if not written:  # nothing was left to write, or nobody to read it
                    stdin.close()
                view = view[written:]

    @staticmethod
    def _write_all(descriptor: int, view: memoryview, poll: Poll) -> None:
        while view:
            poll()
            if select.select([], [descriptor], [], _POLL_SECONDS)[1]:
                view = view[os.write(descriptor, view[:CHUNK]) :]

    def wait(self, poll: Poll = do_not_poll, *, allowed: tuple[int, ...] = (0,)) -> int:
        """The exit code.

        Raises:
            ToolError: it is not among ``allowed``; the message is the tool's own.
        """
        while True:
            poll()
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_POLL_SECONDS)
                break
        self._reader.join(1)
        if code not in allowed:
            ending = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
            raise ToolError(f"{self.name} failed ({ending}): {self.cause}")
        return code

    def stop(self, seconds: float = 10) -> None:
        """Ask it to end, and insist after ``seconds``."""
        self._process.terminate()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the whole group at once and reap the child."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        self._reader.join(1)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def run(
    argv: Sequence[str | Path],
    *,
    params: ConnectionParams | None = None,
    environment: Mapping[str, str] | None = None,
    run_as: RunAs | None = None,
    cwd: Path | None = None,
    allowed: tuple[int, ...] = (0,),
    poll: Poll = do_not_poll,
) -> str:
    """Run a tool to its end and return what it printed.

    Raises:
        ToolError: it ended with a code that is not ``allowed``, or could not be started.
    """
    try:
        child = Child(argv, params=params, environment=environment, run_as=run_as, cwd=cwd)
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be started: {error.strerror}.") from error
    with child:
        output = b"".join(child.read(poll))
        child.wait(poll, allowed=allowed)
    return output.decode("utf-8", "replace")
