"""The import order of docs/decisions/0001, read from the imports themselves."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the top down; a room may import from its own and from those below it.
LAYERS: list[tuple[str, tuple[str, ...]]] = [
    ("adapters", ("dbops.management", "dbops.admin", "dbops.api", "dbops.views", "dbops.urls",
                  "dbops.forms", "dbops.apps")),
    ("running", ("dbops.runner", "dbops.tasks", "dbops.kinds", "dbops.sweep", "dbops.demo",
                 "dbops.schedules", "dbops.kept", "dbops.watch", "dbops.pruning", "dbops.downloads",
                 "dbops.environments", "dbops.switching", "dbops.migrating",
                 "dbops.migrating_directly", "dbops.features")),
    ("records", ("dbops.journal", "dbops.policy", "dbops.catalogue", "dbops.models", "dbops.conf",
                 "dbops.checks", "dbops.migrations", "dbops.database_service", "dbops.detached")),
    ("operations", ("dbops.operations",)),
    ("backups", ("dbops.backups", "dbops.masking", "dbops.sample")),
    ("postgres", ("dbops.postgres",)),
    ("exceptions", ("dbops.exceptions",)),
]  # fmt: skip


@cache
def _modules() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(_parsed())


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for package in ("dbops", "accounts", "skinspire"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _layer(module: str) -> int | None:
    for rank, (_, prefixes) in enumerate(LAYERS):
        if any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes):
            return rank
    return None


def test_every_module_of_dbops_has_a_room() -> None:
    homeless = [
        name for name, _ in _modules() if name.startswith("dbops.") and _layer(name) is None
    ]
    assert homeless == []


def test_imports_go_down_only() -> None:
    upward = []
    for name, tree in _modules():
        rank = _layer(name)
        for imported in _imports(tree):
            other = _layer(imported)
            if rank is not None and other is not None and other < rank:
                upward.append(f"{name} imports {imported}")
    assert upward == []


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("dbops.postgres", ("django", "skinspire", "accounts")),
        ("dbops.backups", ("django", "skinspire", "accounts")),
        ("dbops.masking", ("django", "skinspire", "accounts")),
        ("dbops.operations", ("django", "skinspire", "accounts")),
        ("dbops.exceptions", ("django", "skinspire", "accounts")),
        ("dbops", ("accounts",)),
        ("accounts", ("dbops",)),
    ],
)
def test_who_may_not_be_known(room: str, forbidden: tuple[str, ...]) -> None:
    found = [
        f"{name} imports {imported}"
        for name, tree in _modules()
        if name == room or name.startswith(room + ".")
        for imported in _imports(tree)
        if imported.split(".")[0] in forbidden
    ]
    assert found == []


def test_one_place_starts_children() -> None:
    starters = [
        name
        for name, tree in _modules()
        if name != "dbops.postgres.process"
        and any(
            imported in ("subprocess.Popen", "subprocess.run", "os.system", "os.fork", "pty")
            for imported in _imports(tree)
        )
    ]
    calls = [
        name
        for name, tree in _modules()
        if name != "dbops.postgres.process"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node).startswith(("subprocess.Popen", "subprocess.run", "os.system"))
    ]
    assert starters + calls == []


def test_operations_do_not_print_prompt_or_read_settings() -> None:
    loud = [
        f"{name}: {node.func.id}"
        for name, tree in _modules()
        if name.startswith(("dbops.operations", "dbops.postgres", "dbops.backups", "dbops.masking"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "input")
    ]
    assert loud == []


def test_no_utils_helpers_or_managers() -> None:
    names = {name.rsplit(".", 1)[-1] for name, _ in _modules()}
    assert names.isdisjoint({"utils", "helpers", "manager", "managers", "util"})


def test_functions_stay_small() -> None:
    """The measure of the project: median at most 10 lines, 95th percentile at most 45."""
    lengths = []
    handles = []
    for name, tree in _modules():
        if ".migrations" in name:
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                lengths.append(length)
                if node.name == "handle" and ".commands." in name and length > 25:
                    handles.append(f"{name}: {length}")
    assert statistics.median(lengths) <= 10
    assert statistics.quantiles(lengths, n=20)[-1] <= 45
    assert handles == []


def test_files_stay_small() -> None:
    lengths = [
        len(path.read_text().splitlines())
        for package in ("dbops", "accounts", "skinspire")
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.relative_to(ROOT).parts
    ]
    assert statistics.quantiles(lengths, n=20)[-1] <= 330


def test_public_functions_are_typed() -> None:
    untyped = [
        f"{name}.{node.name}"
        for name, tree in _modules()
        if ".migrations" not in name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.returns is None
    ]
    assert untyped == []
