"""``undo_operation``: put back what a restore, a copy or ``--replace-legacy`` replaced."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf
from dbops.exceptions import ConfirmationError, NothingToUndoError, UsageError
from dbops.kept import kept_database, latest_replacement, replaced_triggers
from dbops.management.operation_command import (
    DbopsCommand,
    find_operation,
    operation_json,
)
from dbops.models import Operation
from dbops.policy import is_protected
from dbops.runner import Outcome
from dbops.wording import counted


class Command(DbopsCommand):
    help = "Swap the database that an operation replaced back into its place."
    asks = True
    example = "undo_operation"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "id",
            metavar="ID",
            nargs="?",
            help="the operation to undo (default: the latest that replaced something)",
        )
        parser.add_argument("--env", metavar="ENV", help="the latest of dev, test or prod")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["id"] == "":
            raise UsageError("ID is empty; leave it out for the latest.")
        done = _chosen(options)
        if kept_database(done) is None and not replaced_triggers(done):
            raise _nothing_to_undo(done)
        target = done.target
        question = f"Put back what {target} held before {done}?"
        self.confirm(question, Operation.Kind.UNDO, options, target=target)
        if not options["id"]:
            self.console.note(f"The latest that replaced something: {done}")
        outcome = self.run_operation(
            Operation.Kind.UNDO, options, target=target, wishes={"operation": done.id}
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        self.console.say(_told(done, outcome), style="green")


def _chosen(options: dict[str, Any]) -> Operation:
    """The operation to undo. Raises ConfirmationError where another environment was confirmed."""
    environment = conf.resolve_environment(options["env"]) if options["env"] is not None else ""
    done = find_operation(options["id"]) if options["id"] else latest_replacement(environment)
    if environment and done.target != environment:
        raise UsageError(f"Operation {done.id} was one on {done.target}, not on {environment}.")
    if options["confirm"] and options["confirm"] != done.target:
        raise ConfirmationError(
            f"The operation to undo, {done.id}, was one on {done.target}, not on "
            f"{options['confirm']}.",
            hint="Say which: python manage.py undo_operation --env ENV",
        )
    return done


def _told(done: Operation, outcome: Outcome) -> str:
    if done.kind == Operation.Kind.TRIGGERS:
        count, where = outcome.result["triggers"], f"of {done.target}"
        back = counted(count, f"trigger {where} is", f"triggers {where} are")
        return f"{back} back as before {done.id}."
    return (
        f"{done.target} is as it was before {done.id}, out of use for "
        f"{outcome.result['outage_ms']:.0f} ms. Undo this too: "
        f"python manage.py undo_operation {outcome.operation.id}"
    )


def _nothing_to_undo(done: Operation) -> NothingToUndoError:
    error = NothingToUndoError(
        f"Operation {done.id} swapped no database, or what it replaced is gone."
    )
    confirm = f" --confirm {done.target}" if is_protected(done.target) else ""
    hints = []
    if way := _way_back(done):
        hints.append(f"The way back: python manage.py {way} --env {done.target}{confirm}")
    if saved := done.result.get("saved_as"):
        tables = "".join(f" --table {table}" for table in done.options.get("tables", ()))
        hints.append(
            "What was there before is kept as a backup: python manage.py dbrestore "
            f"-d {done.target} -i {saved}{tables}{confirm}"
        )
    error.hint = "; ".join(hints) or error.hint
    return error


def _way_back(done: Operation) -> str:
    """What undoes an operation that changed a database where it stands; "" where a backup does."""
    count = len(done.result.get("migrations") or ())
    if done.kind == Operation.Kind.UNDO and "triggers" in done.result:
        return "apply_triggers --replace-legacy"
    if done.kind == Operation.Kind.ROLLBACK:
        return "apply_migration"
    if done.kind == Operation.Kind.MIGRATE and count:
        return f"rollback_migration --steps {count}"
    return ""
