"""``reset_db``: empty an environment's database and initialise it anew."""

from collections.abc import Mapping
from typing import Any

from dbops.management.emptying_command import EmptyingCommand
from dbops.models import Operation
from dbops.wording import counted


class Command(EmptyingCommand):
    help = (
        "Back up a database, then replace it by an empty one with migrations, triggers and stamp."
    )
    example = "reset_db --env dev"
    kind = Operation.Kind.RESET
    question = "Back up {environment}, then empty it and initialise it anew?"

    def what_it_has(self, result: Mapping[str, Any]) -> str:
        migrations = counted(result["migrations"], "migration")
        return f" and initialised: {migrations}, {counted(result['triggers'], 'trigger')}"
