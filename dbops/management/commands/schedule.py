"""``schedule``: operations that come again and again."""

from argparse import SUPPRESS, ArgumentParser
from typing import Any

import humanize
from django.utils import timezone

from dbops import conf, schedules
from dbops.exceptions import DbopsError
from dbops.management.copy_arguments import add_copy_arguments, copy_options
from dbops.management.operation_command import DbopsCommand, add_confirm_argument
from dbops.models import Operation, Schedule
from dbops.schedules import ScheduledRun

_ADDABLE = {
    Operation.Kind.BACKUP: "back up SOURCE",
    Operation.Kind.COPY: "copy SOURCE over TARGET",
    Operation.Kind.VERIFY: "a drill: restore the latest backup of SOURCE aside and compare",
    Operation.Kind.PRUNE: "delete the backups that retention does not keep",
}


class Command(DbopsCommand):
    help = (
        "Plan backups, copies, verifications and prunings by cron expressions, in UTC; run-due, "
        "called every minute, runs those whose time has come."
    )
    example = 'schedule add copy "0 3 * * *" --source test --target dev'

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
        _add_common(actions.add_parser("list", help="what is planned (default)"))
        kinds = actions.add_parser("add", help="plan an operation").add_subparsers(
            dest="kind", metavar="KIND", title="kinds", required=True
        )
        for kind, what in _ADDABLE.items():
            _add_kind(kinds.add_parser(kind.value, help=what, description=what), kind)
        remove = actions.add_parser("remove", help="forget one")
        remove.add_argument("id", metavar="ID", type=int)
        _add_common(remove)
        _add_common(actions.add_parser("run-due", help="run what is due, each once"))

    def handle(self, *args: Any, **options: Any) -> None:
        action = options["action"]
        if action == "add":
            self._add(options)
        elif action == "remove":
            self._answer(schedules.remove_schedule(options["id"], actor=self.actor()), "Removed")
        elif action == "run-due":
            self._run_due()
        else:
            self._list()

    def _add(self, options: dict[str, Any]) -> None:
        schedule = schedules.add_schedule(
            options["kind"], options["cron"], actor=self.actor(),
            confirm=options.get("confirm") or "", **_wanted(options),
        )  # fmt: skip
        self._answer(schedule, "Added", f", first {_when(schedule)}")

    def _answer(self, schedule: Schedule, deed: str, rest: str = "") -> None:
        if self.console.as_json:
            self.console.result({"result": {"schedules": [schedule.to_json()]}})
            return
        self.console.say(f"{deed} schedule {_title(schedule)} ({schedule.cron}){rest}.", "green")

    def _list(self) -> None:
        planned = list(Schedule.objects.select_related("last_operation"))
        if self.console.as_json:
            self.console.result({"result": {"schedules": [it.to_json() for it in planned]}})
            return
        if not planned:
            self.console.note(f"Nothing is planned. Example: python manage.py {self.example}")
            return
        rows = [
            (str(it.pk), it.get_kind_display(), it.where, it.cron, _when(it), _last(it))
            for it in planned
        ]
        self.console.table(("id", "kind", "where", "cron (UTC)", "next", "last"), rows)

    def _run_due(self) -> None:
        with self.console.progress() as listener:
            runs = schedules.run_due(listener=listener)
        content = {"schedules": [_run_json(run) for run in runs]}
        if not self.console.as_json:
            for run in runs:
                self._show(run)
        if failed := [run for run in runs if run.error]:
            raise DbopsError(
                f"{len(failed)} of {len(runs)} that were due failed: "
                + " ".join(f"{run.schedule.pk}: {run.error}" for run in failed),
                hint="Each is tried again at its next time: python manage.py schedule list",
                result=content,
            )
        if self.console.as_json:
            self.console.result({"result": content})

    def _show(self, run: ScheduledRun) -> None:
        # Where nothing was due nothing is said: cron sends by mail whatever is.
        about = f" (operation {run.operation.pk})" if run.operation else ""
        if run.error:
            self.console.say(f"{_title(run.schedule)}{about}: {run.error}", "red")
        else:
            self.console.say(f"{_title(run.schedule)}{about}: done.", "green")


def _add_common(parser: ArgumentParser) -> None:
    """Also behind the action; without a default, which would hide what stood before it."""
    for name, what in (("--json", "print one JSON object on stdout"),
                       ("--traceback", "show where an error came from")):  # fmt: skip
        parser.add_argument(name, action="store_true", default=SUPPRESS, help=what)
    parser.add_argument(
        "--noinput", "--no-input", action="store_false", dest="interactive", default=SUPPRESS,
        help="never prompt",
    )  # fmt: skip


def _add_kind(parser: ArgumentParser, kind: str) -> None:
    parser.add_argument("cron", metavar="CRON", help='in UTC; "0 3 * * *": every night at three')
    all_backups = kind == Operation.Kind.PRUNE
    parser.add_argument(
        "--source", "--env", metavar="ENV", required=not all_backups,
        help=f"dev, test or prod{' (default: all)' if all_backups else ''}",
    )  # fmt: skip
    if kind == Operation.Kind.COPY:
        parser.add_argument("--target", metavar="ENV", required=True, help="dev or test")
        add_copy_arguments(parser)
        add_confirm_argument(parser)
    elif kind == Operation.Kind.BACKUP:
        parser.add_argument("--checksums", action="store_true", help="as of dbbackup")
    _add_common(parser)


def _wanted(options: dict[str, Any]) -> dict[str, Any]:
    """What the command of that kind would submit."""
    kind = options["kind"]
    named = options["source"]
    source = "" if named is None else conf.resolve_environment(named)
    if kind == Operation.Kind.COPY:
        target = conf.resolve_environment(options["target"])
        return {"source": source, "target": target, "options": copy_options(options)}
    if kind == Operation.Kind.VERIFY:
        return {"target": source, "options": {"full": True}}
    if kind == Operation.Kind.PRUNE:
        return {"options": {"environment": source}}
    return {"source": source, "options": {"checksums": options["checksums"]}}


def _run_json(run: ScheduledRun) -> dict[str, Any]:
    operation, error = run.operation, run.error
    told = error and {"code": error.code, "message": str(error), "hint": error.hint}
    return run.schedule.to_json() | {
        "operation": operation and operation.to_json(), "error": told,
    }  # fmt: skip


def _title(schedule: Schedule) -> str:
    return f"{schedule.pk}: {schedule.get_kind_display().lower()} {schedule.where}"


def _when(schedule: Schedule) -> str:
    due = schedule.next_due_at
    return f"{due:%Y-%m-%d %H:%M} UTC ({humanize.naturaltime(timezone.now() - due)})"


def _last(schedule: Schedule) -> str:
    if schedule.last_run_at is None:
        return "never"
    ago = humanize.naturaltime(timezone.now() - schedule.last_run_at)
    return f"{schedule.last_status} {ago} {schedule.last_error}".strip()
