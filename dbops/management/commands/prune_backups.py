"""``prune_backups``: delete the backups that no layer of the retention keeps."""

from argparse import ArgumentParser
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import humanize

from dbops import conf
from dbops.exceptions import UsageError
from dbops.management.console import size
from dbops.management.operation_command import DbopsCommand, operation_json
from dbops.models import Operation
from dbops.operations.retention import PrunePlan, PruneResult, plan_prune
from dbops.pruning import prune_request, set_pinned
from dbops.wording import counted


class Command(DbopsCommand):
    help = (
        "Delete backups, except the newest of each of the last days, weeks and months that have "
        "one (BACKUP_RETENTION). Never deleted: the newest good, the last verified, pinned and "
        "used ones, and anything without a valid manifest."
    )
    example = "prune_backups --dry-run"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--env", metavar="ENV", help="only this environment's backups (default: all)"
        )
        instead = parser.add_mutually_exclusive_group()
        instead.add_argument(
            "--dry-run", action="store_true", help="say what would go, and why the rest stays"
        )
        instead.add_argument("--pin", metavar="NAME", help="mark a backup as never to be deleted")
        instead.add_argument("--unpin", metavar="NAME", help="take that mark away")

    def handle(self, *args: Any, **options: Any) -> None:
        for name, pinned in ((options["pin"], True), (options["unpin"], False)):
            if name is not None:
                self._set_pinned(name, pinned)
                return
        environment = "" if options["env"] is None else conf.resolve_environment(options["env"])
        if options["dry_run"]:
            self._show_plan(plan_prune(prune_request(environment)))
            return
        if options["interactive"]:
            plan = plan_prune(prune_request(environment))
            self.confirm(_question(plan), Operation.Kind.PRUNE, options)
        outcome = self.run_operation(
            Operation.Kind.PRUNE, options, wishes={"environment": environment}
        )
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        self.console.say(
            f"Pruned: {len(result['deleted'])} deleted, {len(result['kept'])} kept, "
            f"{size(result['freed'])} freed.",
            style="green",
        )

    def _set_pinned(self, name: str, pinned: bool) -> None:
        if not name:
            raise UsageError("The name is empty: it may come from a variable nobody set.")
        set_pinned(name, pinned, actor=self.actor())
        if self.console.as_json:
            self.console.result({"result": {"name": name, "pinned": pinned}})
            return
        self.console.say(f"{name} is {'pinned: never' if pinned else 'not pinned: may be'} pruned.")

    def _show_plan(self, plan: PrunePlan) -> None:
        if self.console.as_json:
            foreseen = PruneResult(plan.names, plan.kept, plan.plan.freed)
            self.console.result({"result": asdict(foreseen)})
            return
        now = datetime.now(UTC)
        for kept in plan.kept:
            self.console.say(f"keep    {kept.name}  ({', '.join(kept.reasons)})")
        for backup in plan.plan.deleted:
            age = humanize.naturaltime(now - backup.created_at)
            self.console.say(f"delete  {backup.name}  ({age}, {size(backup.manifest.size)})")
        for remnant in plan.remnants:
            self.console.say(f"delete  {remnant.name}  (its archive is deleted already)")
        self.console.say(
            f"Would delete {len(plan.names)}, keep {len(plan.kept)} and free "
            f"{size(plan.plan.freed)}. Nothing was done."
        )


def _question(plan: PrunePlan) -> str:
    total = len(plan.names) + len(plan.kept)
    return f"Delete {len(plan.names)} of {counted(total, 'backup')} ({size(plan.plan.freed)})?"
