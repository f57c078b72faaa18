"""Every command with everything it needs: its example works, and nobody is asked in vain."""

from __future__ import annotations

import inspect
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.installation import REPOSITORY, Answer, Installation
from tests.servers import Server

COMMANDS = sorted(
    path.stem
    for path in (REPOSITORY / "dbops/management/commands").glob("*.py")
    if not path.stem.startswith("_")
)
# Django's and django-tasks' own, without an example of ours.
OTHERS = {"migrate", "db_worker"}


def command_class(name: str) -> Any:
    return import_module(f"dbops.management.commands.{name}").Command


@dataclass
class Prepared:
    """dev and test with tables, two backups of test, and dev a copy of test."""

    installation: Installation
    backup: str
    copy: str

    def run(self, line: str, *more: str, code: int | None = 0) -> Answer:
        return self.installation.run(*shlex.split(line), *more, code=code)


@pytest.fixture(scope="module")
def prepared(server18: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with Installation.create(server18, tmp_path_factory.mktemp("examples")) as made:
        made.variables["BACKUP_RETENTION"] = "daily=1,weekly=0,monthly=0"
        for name in ("dev", "test"):
            made.run("init_db", "--env", name)
            made.sql(name, f"CREATE TABLE public.patients AS SELECT 1 AS id, '{name}' AS name")
        for _ in range(2):
            backup = made.result("dbbackup", "-d", "test")["name"]
        copied = made.run("copy_db", "test", "dev", "--noinput", "--json").json
        yield Prepared(made, backup, copied["operation"]["id"])


# What stands in an example for something that only an installation has.
MEANT: dict[str, Callable[[Prepared], dict[str, str]]] = {
    "operations": lambda it: {"1f2e3d4c5b6a": it.copy},
    "verify_backup": lambda it: {"test-20261121T030000Z-1f2e3d4c5b6a.dump.zst": it.backup},
    "dbrestore": lambda it: {"pagila.dump": str(it.installation.home / "backups" / it.backup)},
}
# What has to be done right before it, and right after it.
BEFORE = {"undo_operation": ["copy_db test dev --noinput"]}
AFTER = {"pg": ["pg stop"]}
# What was found may be that two environments differ.
ANSWERS = {"diff_db": (0, 1)}
# Run to its end by a test of its own, since it needs an installation without databases.
ELSEWHERE = {"demo": "test_demo.py"}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OTHERS])
def test_the_example_works(prepared: Prepared, name: str) -> None:
    command = command_class(name)
    assert command.example.split()[0] == name
    if name in ELSEWHERE:
        options = command.example.split()[1:]
        source = (Path(__file__).parent / ELSEWHERE[name]).read_text()
        assert all(f'"{option}"' in source for option in options)
        return
    line = command.example
    for placeholder, meant in MEANT.get(name, lambda _: {})(prepared).items():
        assert placeholder in line
        line = line.replace(placeholder, shlex.quote(meant))
    for step in BEFORE.get(name, []):
        prepared.run(step)
    try:
        answer = prepared.run(line, "--noinput", code=None)
    finally:
        for step in AFTER.get(name, []):
            prepared.run(step)
    assert answer.code in ANSWERS.get(name, (0,)), answer
    assert answer.out


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in OTHERS])
def test_help_ends_with_the_example(name: str) -> None:
    command = command_class(name)()
    text = command.create_parser("manage.py", name).format_help()
    assert " ".join(text.split()).endswith(f"Example: python manage.py {command.example}")


# Every command that asks before it replaces or deletes something, and a call that makes it ask.
DESTRUCTIVE = {
    "dbrestore": "dbrestore -d test -i {backup}",
    "copy_db": "copy_db test dev",
    "undo_operation": "undo_operation",
    "prune_backups": "prune_backups",
    "reset_db": "reset_db --env dev",
    "drop_all_tables": "drop_all_tables --env dev",
    "rollback_migration": "rollback_migration --steps 1 --env dev",
}


def test_every_command_that_asks_is_known() -> None:
    asking = {
        name
        for name in COMMANDS
        if any(
            "self.confirm(" in inspect.getsource(import_module(it.__module__))
            for it in command_class(name).__mro__
            if it.__module__.startswith("dbops.management.")
        )
    }
    assert asking == set(DESTRUCTIVE)


@pytest.mark.parametrize("name", DESTRUCTIVE)
def test_nothing_destructive_without_an_answer(prepared: Prepared, name: str) -> None:
    """Fault 50: no terminal and no --noinput."""
    for step in BEFORE.get(name, []):
        prepared.run(step)
    before = _standing(prepared.installation)
    answer = prepared.run(DESTRUCTIVE[name].format(backup=prepared.backup), code=1)
    assert answer.err.startswith("Error: ")
    assert "Nobody is there to answer." in answer.err
    assert "--noinput" in answer.err
    assert _standing(prepared.installation) == before


def _standing(installation: Installation) -> Any:
    """What must not have changed: rows, backups, operations."""
    with closing(sqlite3.connect(installation.home / "control.sqlite3")) as control:
        operations = control.execute("SELECT id, status FROM dbops_operation").fetchall()
    files = sorted(path.name for path in (installation.home / "backups").iterdir())
    return [installation.hashes(name) for name in ("dev", "test")], files, operations
