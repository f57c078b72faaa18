"""``manage.py`` without the wait: commands are forked from a process that did the imports before.

What is imported ahead knows no settings: each command reads its own from its own environment, has a
process and a session of its own, and ends as any interpreter does. These imports are more than half
of a short command's time, and the tests run thousands. With ``SKINSPIRE_TEST_COLD=1`` a new
interpreter is started for each.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
_PACKAGES = ("dbops.postgres", "dbops.operations", "dbops.backups", "dbops.masking")
_LIBRARIES = (
    "csp.constants", "django.contrib.admin", "django.contrib.syndication.views",
    "django.core.management", "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base", "django.db.migrations.executor", "django.db.models",
    "django.test", "django_stubs_ext", "environ", "humanize", "psycopg2.extras",
    "rich._emoji_codes", "rich.console", "rich.progress", "rich.table", "statistics",
)  # fmt: skip
# What an interpreter reads where it starts.
_EARLY = ("PYTHON", "LC_", "LANG", "TZ", "LD_")


def run_manage(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float = 240
) -> tuple[int, str, str]:
    """manage.py to its end: exit code (negative: the signal), standard output, standard error.

    Args:
        environment: all of its variables.
        timeout: seconds, after which TimeoutError or subprocess.TimeoutExpired is raised.
    """
    if _can_be_forked(environment):
        return _fork(arguments, environment, timeout)
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=REPOSITORY, env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def kept(*names: str) -> dict[str, str]:
    """Of this process's variables those, and what an interpreter reads where it starts."""
    return {
        key: value for key, value in os.environ.items() if key in names or key.startswith(_EARLY)
    }


def _can_be_forked(environment: Mapping[str, str]) -> bool:
    early = [key for key in environment.keys() | os.environ.keys() if key.startswith(_EARLY)]
    same = all(environment.get(key) == os.environ.get(key) for key in early)
    return same and "SKINSPIRE_TEST_COLD" not in os.environ


def _fork(
    arguments: Sequence[str], environment: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        socket.socket(socket.AF_UNIX) as asking,
    ):
        asking.settimeout(timeout)
        asking.connect(_address())
        order = json.dumps({"arguments": arguments, "environment": dict(environment)}).encode()
        socket.send_fds(asking, [len(order).to_bytes(8)], [out.fileno(), err.fileno()])
        asking.sendall(order)
        code = int(asking.recv(16))
        return code, _text(out), _text(err)


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode().replace("\r\n", "\n"))


@cache
def _address() -> str:
    """Of this test process's own warm one, which ends with it."""
    place = tempfile.mkdtemp(prefix="warm-")
    path = f"{place}/socket"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", path], cwd=REPOSITORY, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    atexit.register(process.wait)
    atexit.register(process.stdin.close)
    assert process.stdout.readline() == "ready\n"
    return path


def _serve(path: str) -> dict[str, Any] | None:
    """Fork for each order until whoever started us is gone: None then, its order in a command."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            ready, _, _ = select.select([listening, sys.stdin], [], [])
            if sys.stdin in ready:
                os.unlink(path)
                os.rmdir(os.path.dirname(path))
                return None
            asking, _ = listening.accept()
            if os.fork() == 0:
                return _attend(listening, asking)
            asking.close()


def _attend(listening: socket.socket, asking: socket.socket) -> dict[str, Any]:
    """Fork the command, tell how it ended; in the command, return what it is to do."""
    listening.close()
    head, descriptors, _, _ = socket.recv_fds(asking, 8, 2)
    content, length = b"", int.from_bytes(head)
    while len(content) < length:
        content += asking.recv(length - len(content))
    command = os.fork()
    if command == 0:
        asking.close()
        for source, target in zip(
            (os.open(os.devnull, os.O_RDONLY), *descriptors), (0, 1, 2), strict=True
        ):
            os.dup2(source, target)
            os.close(source)
        return dict(json.loads(content))
    status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with suppress(OSError):  # who asked has given up
        asking.sendall(str(status).encode())
    os._exit(0)


def _import_ahead() -> None:
    from importlib import import_module
    from pkgutil import walk_packages

    for name in _LIBRARIES:
        import_module(name)
    for package in _PACKAGES:
        for found in walk_packages(import_module(package).__path__, f"{package}."):
            import_module(found.name)
    from django.conf import settings

    assert not settings.configured


def _become(order: Mapping[str, Any]) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv[:] = ["manage.py", *order["arguments"]]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _import_ahead()
    wanted = _serve(sys.argv[1])
    if wanted is not None:
        _become(wanted)
        import manage

        manage.main()
