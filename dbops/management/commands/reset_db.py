"""``reset_db``: empty an environment's database and initialise it anew."""

from typing import Any

from dbops.management.operation_command import (
    DbopsCommand,
    environment_option,
    operation_json,
)
from dbops.models import Operation
from dbops.wording import counted


class Command(DbopsCommand):
    help = (
        "Back up a database, then replace it by an empty one with migrations, triggers and stamp."
    )
    example = "reset_db --env dev"
    takes_environment = True
    asks = True

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        question = f"Back up {environment}, then empty it and initialise it anew?"
        self.confirm(question, Operation.Kind.RESET, options, target=environment)
        outcome = self.run_operation(Operation.Kind.RESET, options, target=environment)
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        gone = counted(result["tables"], "table is gone", "tables are gone")
        self.console.say(
            f"{environment} is empty and initialised: "
            f"{counted(result['migrations'], 'migration')}, "
            f"{counted(result['triggers'], 'trigger')}; {gone}. Undo: "
            f"python manage.py undo_operation {outcome.operation.id}",
            style="green",
        )
