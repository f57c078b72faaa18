"""``show_migrations``: what is applied where, when and by whom."""

from argparse import ArgumentParser
from dataclasses import asdict
from functools import partial
from typing import Any

from dbops import conf
from dbops.management.operation_command import DbopsCommand
from dbops.migrating.journal import who_applied
from dbops.migrating.known import apps_elsewhere, known_migrations
from dbops.operations.migration_state import (
    MigrationState,
    ShowRequest,
    ShowResult,
    show_migrations,
)
from skinspire.environment import ENVIRONMENTS


class Command(DbopsCommand):
    help = "Show which migrations are applied in each environment, when and by whom."
    example = "show_migrations --env dev"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--env", metavar="ENV", help="only this one (default: all)")

    def handle(self, *args: Any, **options: Any) -> None:
        named = options["env"]
        chosen = ENVIRONMENTS if named is None else (conf.resolve_environment(named),)
        databases = {name: partial(conf.database_params, name) for name in chosen}
        known, elsewhere = known_migrations(chosen[0]), apps_elsewhere(chosen[0])
        found = show_migrations(ShowRequest(databases, known, elsewhere, who_applied))
        if self.console.as_json:
            self.console.result({"result": asdict(found)})
        else:
            self._show(found, chosen)

    def _show(self, found: ShowResult, chosen: tuple[str, ...]) -> None:
        rows = [
            (
                shown.migration if shown.known else f"{shown.migration} (not in this code)",
                *(_cell(shown.environments.get(name)) for name in chosen),
            )
            for shown in found.migrations
        ]
        self.console.table(("migration", *chosen), rows)
        for name, why in found.unreachable.items():
            self.console.note(f"{name} cannot be reached: {why}", style="yellow")


def _cell(state: MigrationState | None) -> str:
    if state is None:
        return "?"
    if not state.applied:
        return "-"
    when = f"{state.at:%Y-%m-%d %H:%M}" if state.at else "applied"
    return f"{when} {state.by}" if state.by else when
