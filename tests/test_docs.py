"""Documents that cannot lie: every command and variable is told of, every decision is numbered,
every fault has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from skinspire.known import BY_NAME, KNOWN

ROOT = Path(__file__).parents[1]


_URLS = {
    f"{name}_{kind}_URL"
    for name in ("DEV", "TEST", "PROD")
    for kind in ("DATABASE", "POOL", "REPLICA")
}


def test_every_command_is_in_the_readme_and_none_beside() -> None:
    commands = {
        path.stem
        for app in ("dbops", "accounts")
        for path in (ROOT / app / "management/commands").glob("*.py")
        if not path.stem.startswith("_")
    }
    table = re.findall(r"^\| `(\w+)", (ROOT / "README.md").read_text(), re.M)
    assert set(table) == commands


def test_every_variable_is_in_the_example() -> None:
    read = set()
    for path in (ROOT / "skinspire").rglob("*.py"):
        read |= set(re.findall(r'(?:read_\w+|env\.str)\((?:env, )?"([A-Z_]+)"', path.read_text()))
    read |= _URLS | {"SKINSPIRE_ENV"}
    example = (ROOT / ".env.example").read_text()
    assert {name for name in read if not re.search(rf"^#?{name}=", example, re.M)} == set()
    # Those that are known are shown by show_db_config, and typing errors are measured by them.
    assert read <= set(BY_NAME)
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.M)) == set(BY_NAME)


def test_the_page_on_environments_has_every_variable() -> None:
    rows = [f"| `{it.name}`{' †' if it.secret else ''} | {it.what} | {it.empty} |" for it in KNOWN]
    page = (ROOT / "docs/environments.md").read_text()
    table = page[page.index("## Variables") :]
    assert re.findall(r"^\| `.*$", table, re.M) == rows


def test_every_secret_may_come_from_a_file() -> None:
    """What is marked so is read so, and nothing else."""
    source = "".join(path.read_text() for path in (ROOT / "skinspire").rglob("*.py"))
    read = set(re.findall(r'read_secret\(env, f?"([A-Z_]+)"', source))
    read |= _URLS
    assert read == {it.name for it in KNOWN if it.secret}


def test_the_example_holds_no_secret() -> None:
    for line in (ROOT / ".env.example").read_text().splitlines():
        if re.match(
            r"^#?(SECRET_KEY|\w+_(?:DATABASE|POOL|REPLICA)_URL|BACKUP_IDENTITY|\w+_PASSPHRASE)=",
            line,
        ):
            assert line.endswith("=")


def test_every_dependency_is_pinned_and_justified() -> None:
    reasons = (ROOT / "docs/decisions/dependencies.md").read_text().lower()
    files = [ROOT / "requirements.txt", ROOT / "requirements-s3.txt"]
    for line in "\n".join(file.read_text() for file in files).splitlines():
        if not line or line.startswith(("#", "-r ")):
            continue
        name, _, version = line.partition("==")
        assert version, line
        short = name.lower().removeprefix("types-").removesuffix("-stubs").split("[")[0]
        short = {"djangorestframework": "drf"}.get(short, short)
        assert short in reasons or name.lower() in reasons, name


def test_every_fault_has_its_test() -> None:
    """Its docstring begins with "Fault 7:", or "Faults 14 and 15:"."""
    tested = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                named = re.match(r"Faults? ([^:]+):", ast.get_docstring(node) or "")
                tested |= set(map(int, re.findall(r"\d+", named[1]))) if named else set()
    assert set(range(1, 70)) - tested == set()
