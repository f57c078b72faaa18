"""``maintain_db``: analyse, vacuum and reindex where it is due."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from dbops.kinds.upkeep import maintain_request
from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.upkeep import maintain_db
from dbops.postgres.names import visible

_STYLES = {"done": "green", "due": None, "skipped": "yellow"}


class Command(DbopsCommand):
    help = (
        "Analyse, vacuum and reindex where the catalogue says it is due; readers and writers go on."
    )
    example = "maintain_db --env dev --dry-run"
    takes_environment = True
    asks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="say what is due and why; do nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        if options["dry_run"]:
            request = maintain_request(environment, dry_run=True)
            result = asdict(maintain_db(request, OperationContext("", actor=self.actor())))
            answer = {"result": result}
        else:
            outcome = self.run_operation(Operation.Kind.MAINTAIN, options, target=environment)
            result, answer = dict(outcome.result), operation_json(outcome)
        if self.console.as_json:
            self.console.result(answer)
        else:
            self._show(environment, result["actions"])

    def _show(self, environment: str, actions: Any) -> None:
        if not actions:
            self.console.say(f"Nothing is due in {environment}.", style="green")
        for it in actions:
            why_not = f" ({it['why_not']})" if it["why_not"] else ""
            self.console.say(
                visible(f"{it['state']}: {it['verb']} {it['object']}: {it['reason']}{why_not}"),
                style=_STYLES[it["state"]],
            )
