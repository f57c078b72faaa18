"""Which migrations are applied where: read from the databases themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from dbops.exceptions import DbopsError
from dbops.operations.at_once import PATIENCE, answers_within, silence, why_unreachable
from dbops.postgres.connection import execute, fetch_all, fetch_value, session
from dbops.postgres.params import ConnectionParams

Applied = Mapping[str, datetime]
"""When, by "app.name", in the order in which they were applied."""
Who = Callable[[Applied], Mapping[str, str]]


@dataclass(frozen=True)
class ShowRequest:
    """What to look at."""

    databases: Mapping[str, Callable[[], ConnectionParams]]
    """By environment; one that is not configured raises when it is asked for."""
    known: Mapping[str, Sequence[str]]
    """The code's migrations in their order, and which others each replaces."""
    elsewhere: Collection[str]
    """Applications whose tables are in another database; Django records their migrations all the
    same."""
    who: Who
    """Tells who applied them, as far as anybody knows."""


@dataclass(frozen=True)
class MigrationState:
    """One migration in one environment."""

    applied: bool
    at: datetime | None = None
    by: str | None = None
    """None where nobody recorded it."""


@dataclass(frozen=True)
class ShownMigration:
    """One migration in all environments that answer."""

    migration: str
    known: bool
    """Whether this code has it."""
    environments: Mapping[str, MigrationState]


@dataclass(frozen=True)
class ShowResult:
    """All migrations, side by side."""

    migrations: tuple[ShownMigration, ...]
    unreachable: Mapping[str, str]
    """Why, by environment."""


def show_migrations(request: ShowRequest) -> ShowResult:
    """Look at all environments at once; one that does not answer is told, and keeps nobody."""
    questions = {name: partial(_look, find) for name, find in request.databases.items()}
    answers = answers_within(PATIENCE, questions)
    unreachable: dict[str, str] = {}
    applied: dict[str, Applied] = {}
    for name in request.databases:
        answer = answers.get(name, silence(PATIENCE))
        if isinstance(answer, str):
            unreachable[name] = answer
        else:
            applied[name] = answer
    known = {label: tuple(replaced) for label, replaced in request.known.items()}
    ours = set(known).union(*known.values())
    recorded = {label for it in applied.values() for label in it}
    foreign = sorted(it for it in recorded - ours if it.split(".", 1)[0] not in request.elsewhere)
    by = {name: request.who(it) for name, it in applied.items()}
    shown = tuple(
        ShownMigration(
            label,
            label in known,
            {
                name: _state(label, known.get(label, ()), it, by[name])
                for name, it in applied.items()
            },
        )
        for label in (*known, *foreign)
    )
    return ShowResult(shown, unreachable)


def _state(
    label: str, replaced: Sequence[str], applied: Applied, by: Mapping[str, str]
) -> MigrationState:
    if label in applied:
        return MigrationState(True, applied[label], by.get(label))
    if replaced and all(one in applied for one in replaced):
        last = max(replaced, key=applied.__getitem__)
        return MigrationState(True, applied[last], by.get(last))
    return MigrationState(False)


def _look(find: Callable[[], ConnectionParams]) -> Applied | str:
    """What is applied, or why that cannot be told."""
    try:
        return read_applied(find())
    except DbopsError as error:
        return why_unreachable(error)


def read_applied(params: ConnectionParams) -> dict[str, datetime]:
    """Django's record, {} where there is none. Raises ConnectionFailedError, StatementError."""
    with session(params) as connection:
        execute(connection, f"SET statement_timeout = {round(PATIENCE * 1000)}")
        if fetch_value(connection, "SELECT to_regclass('public.django_migrations')") is None:
            return {}
        rows = fetch_all(
            connection, "SELECT app, name, applied FROM public.django_migrations ORDER BY id"
        )
    return {f"{app}.{name}": moment for app, name, moment in rows}
