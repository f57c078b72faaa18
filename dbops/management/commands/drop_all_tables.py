"""``drop_all_tables``: leave nothing of what an environment's database holds."""

from typing import Any

from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.wording import counted


class Command(DbopsCommand):
    help = "Back up a database, then replace it by an empty one: all its objects are gone."
    example = "drop_all_tables --env dev"
    takes_environment = True
    asks = True

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        question = f"Back up {environment}, then drop everything it holds?"
        self.confirm(question, Operation.Kind.DROP, options, target=environment)
        outcome = self.run_operation(Operation.Kind.DROP, options, target=environment)
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        gone = counted(result["tables"], "table is gone", "tables are gone")
        self.console.say(
            f"{environment} is empty: {gone}, with all that belonged to "
            f"{'it' if result['tables'] == 1 else 'them'}. Undo: "
            f"python manage.py undo_operation {outcome.operation.id}",
            style="green",
        )
