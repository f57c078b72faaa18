"""``operations``: what was done, is being done, and what dead processes left behind."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

import humanize

from dbops import journal, runner
from dbops.exceptions import DbopsError, UsageError
from dbops.management.operation_command import DbopsCommand, find_operation
from dbops.models import Operation
from dbops.sweep import mark_lost_operations, sweep

_STYLES = {"succeeded": "green", "failed": "red", "interrupted": "red", "running": "cyan"}


class Command(DbopsCommand):
    help = "List, show or cancel operations; sweep clears up after processes that died."
    example = "operations show 1f2e3d4c5b6a"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "action", nargs="?", choices=("list", "show", "cancel", "sweep"), default="list"
        )
        parser.add_argument("id", metavar="ID", nargs="?", help="for show and cancel")
        parser.add_argument("--limit", type=int, default=20, help="how many to list (default: 20)")

    def handle(self, *args: Any, **options: Any) -> None:
        action = options["action"]
        if action in ("show", "cancel") and not options["id"]:
            raise UsageError(f"operations {action} needs an ID.", hint="operations list")
        if action == "list":
            self._list(max(1, options["limit"]))
        elif action == "show":
            self._show(find_operation(options["id"]))
        elif action == "cancel":
            self._cancel(find_operation(options["id"]))
        else:
            self._sweep()

    def _list(self, limit: int) -> None:
        operations = list(Operation.objects.all()[:limit])
        if self.console.as_json:
            found = [operation.to_json() for operation in operations]
            self.console.result({"result": {"operations": found}})
            return
        if not operations:
            self.console.note("Nothing was done yet.")
            return
        rows = [
            (item.id, item.get_kind_display(), item.route, item.status, item.actor,
             humanize.naturaltime(item.created_at),
             f"{item.seconds:.1f} s" if item.seconds is not None else "")
            for item in operations
        ]  # fmt: skip
        self.console.table(("id", "kind", "where", "status", "actor", "when", "took"), rows)

    def _show(self, operation: Operation) -> None:
        steps = operation.log_lines.filter(kind="step").values_list("text", flat=True)
        log = operation.log_lines.filter(kind="log").values_list("text", flat=True)
        if self.console.as_json:
            self.console.result({
                "operation": operation.to_json(),
                "result": {
                    "operation": operation.to_json(), "steps": list(steps), "log": list(log),
                    "outcome": operation.result, "error": operation.error or None,
                },
            })  # fmt: skip
            return
        self.console.say(f"{operation}  {operation.status}", style=_STYLES.get(operation.status))
        self.console.say(f"by {operation.actor} ({operation.door}), {operation.created_at:%c}")
        for line in operation.log_lines.all():
            self.console.say(f"  {line.at:%H:%M:%S}  {line.text}")
        for key, value in operation.result.items():
            self.console.say(f"  {key}: {value}")
        if operation.error:
            self.console.say(f"  {operation.error}", style="red")

    def _cancel(self, operation: Operation) -> None:
        mark_lost_operations(actor=self.actor())
        operation.refresh_from_db()
        if not operation.is_active:
            raise DbopsError(f"Operation {operation.id} is {operation.status} already.")
        operation = runner.request_cancel(operation, actor=self.actor())
        operation = runner.wait_for_end(operation, seconds=10)
        if self.console.as_json:
            self.console.result({"operation": operation.to_json(), "result": {}})
            return
        self.console.say(f"Operation {operation.id} is {operation.status}.")

    def _sweep(self) -> None:
        swept = asdict(sweep(actor=self.actor()))
        problems = journal.verify_journal()
        content = swept | {"journal_problems": problems}
        if not self.console.as_json:
            self._show_swept(swept)
        if problems:
            raise DbopsError(f"The journal is not as it was written: {problems[0]}", result=content)
        if self.console.as_json:
            self.console.result({"result": content})

    def _show_swept(self, swept: dict[str, list[str]]) -> None:
        for what, names in swept.items():
            for name in names:
                self.console.say(f"{what}: {name}")
        if not any(swept.values()):
            self.console.say("Nothing was left behind.", style="green")
