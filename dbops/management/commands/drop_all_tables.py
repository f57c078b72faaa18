"""``drop_all_tables``: leave nothing of what an environment's database holds."""

from dbops.management.emptying_command import EmptyingCommand
from dbops.models import Operation


class Command(EmptyingCommand):
    help = "Back up a database, then replace it by an empty one: all its objects are gone."
    example = "drop_all_tables --env dev"
    kind = Operation.Kind.DROP
    question = "Back up {environment}, then drop everything it holds?"
