"""What the commands share that put an empty database in an environment's place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.wording import counted


class EmptyingCommand(DbopsCommand):
    """Asks, runs the operation, and says what is gone and how to get it back."""

    takes_environment = True
    asks = True
    kind: ClassVar[str]
    question: ClassVar[str]
    """With the environment left open."""

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        question = self.question.format(environment=environment)
        self.confirm(question, self.kind, options, target=environment)
        outcome = self.run_operation(self.kind, options, target=environment)
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        gone = counted(outcome.result["tables"], "table is gone", "tables are gone")
        self.console.say(
            f"{environment} is empty{self.what_it_has(outcome.result)}; {gone}, and "
            f"whatever else it held. Undo: python manage.py undo_operation {outcome.operation.id}",
            style="green",
        )

    def what_it_has(self, result: Mapping[str, Any]) -> str:
        """What the empty database holds already, as the end of half a sentence."""
        return ""
