"""Writing migration files for what changed in the models. No database is asked or touched."""

from __future__ import annotations

import re
import sysconfig
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from django.apps import apps
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.questioner import (
    InteractiveMigrationQuestioner,
    MigrationQuestioner,
    NonInteractiveMigrationQuestioner,
)
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter

from dbops.exceptions import MigrationError, UsageError
from dbops.migrating.migrator import require_one_leaf

_LONGEST_NAME = 60


@dataclass(frozen=True)
class CreateRequest:
    """What to write."""

    message: str
    """What becomes the name."""
    app: str = ""
    """The only one to write for; "" for all that changed."""
    empty: bool = False
    """One to be filled by hand."""
    ask: Any = None
    """Where questions are asked, such as what fills a new column; None where nobody answers."""


@dataclass(frozen=True)
class CreateResult:
    """What was written."""

    migrations: tuple[str, ...]
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    """Changed applications that are not this project's own."""


def create_migration(request: CreateRequest) -> CreateResult:
    """Write a migration for each application whose models changed, or none at all.

    Raises:
        UsageError: no such application, or nothing in the message makes a name.
        MigrationError: an application has several latest migrations; a change needs an answer
            nobody gives; or a file cannot be written.
    """
    name = _name_from(request.message)
    _require_app(request)
    loader = MigrationLoader(None)
    require_one_leaf(loader)
    found = _changes(request, loader, name)
    own = {app: it for app, it in found.items() if app == request.app or _is_ours(app)}
    written = [migration for app in sorted(own) for migration in own[app]]
    files = _write(written)
    return CreateResult(
        tuple(f"{it.app_label}.{it.name}" for it in written),
        tuple(map(str, files)),
        tuple(sorted(found.keys() - own.keys())),
    )


def _name_from(message: str) -> str:
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "_", plain.lower())[:_LONGEST_NAME].strip("_")
    if not name:
        raise UsageError(f"-m {message[:40]!r} holds nothing a file can be named after.")
    return name


def _require_app(request: CreateRequest) -> None:
    known = {config.label for config in apps.get_app_configs()}
    if request.app and request.app not in known:
        raise UsageError(f"There is no application {request.app[:40]!r} here.")
    if request.empty and not request.app:
        raise UsageError("--empty needs --app: which application is it for?")


def _changes(
    request: CreateRequest, loader: MigrationLoader, name: str
) -> Mapping[str, Sequence[Migration]]:
    only = {request.app} if request.app else None
    state = ProjectState.from_apps(apps)
    asking = _questioner(request, only)
    detector = MigrationAutodetector(loader.project_state(), state, asking)
    if request.empty:
        changes = {request.app: [Migration("custom", request.app)]}
        return detector.arrange_for_graph(changes, loader.graph, migration_name=name)
    return detector.changes(
        graph=loader.graph, trim_to_apps=only, convert_apps=only, migration_name=name
    )


def _questioner(request: CreateRequest, only: set[str] | None) -> MigrationQuestioner:
    if request.ask is not None:
        return InteractiveMigrationQuestioner(specified_apps=only, prompt_output=request.ask)
    return _NobodyAnswers(specified_apps=only, verbosity=0)


class _NobodyAnswers(NonInteractiveMigrationQuestioner):
    """Django's would end the process."""

    def ask_not_null_addition(self, field_name: str, model_name: str) -> NoReturn:
        raise _unanswered(f"{model_name}.{field_name} is new and must not be null")

    def ask_auto_now_add_addition(self, field_name: str, model_name: str) -> NoReturn:
        raise _unanswered(f"{model_name}.{field_name} is new and filled only from now on")


def _unanswered(what: str) -> MigrationError:
    return MigrationError(
        f"{what}: what do the rows get that are there already?",
        hint="Give the field a default, or null=True; or run it at a terminal, which asks.",
    )


def _is_ours(app: str) -> bool:
    """Whether it is not an installed package, whose files are not to be written to."""
    where = Path(apps.get_app_config(app).path).resolve()
    installed = {Path(sysconfig.get_path(it)).resolve() for it in ("purelib", "platlib")}
    return not any(where.is_relative_to(it) for it in installed)


def _write(migrations: Sequence[Migration]) -> list[Path]:
    """All of them, or none."""
    made: list[Path] = []
    try:
        contents = [(Path(it.path), it.as_string()) for it in map(MigrationWriter, migrations)]
        for path, text in contents:
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "__init__.py").touch()
            with path.open("x", encoding="utf-8") as file:
                made.append(path)
                file.write(text)
    except (OSError, ValueError) as error:
        for path in made:
            path.unlink(missing_ok=True)
        first = (str(error).splitlines() or [""])[0]
        raise MigrationError(f"No migration was written: {first}.") from error
    return made
