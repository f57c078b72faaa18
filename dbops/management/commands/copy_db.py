"""``copy_db``: one environment's database over another's."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf, policy
from dbops.exceptions import ConfigurationError
from dbops.kinds import copy_request
from dbops.management.console import size
from dbops.management.operation_command import DbopsCommand, operation_json
from dbops.models import Operation
from dbops.operations.copy import STRATEGIES, CopyPlan, plan_copy
from dbops.runner import Outcome


class Command(DbopsCommand):
    help = "Copy SOURCE over TARGET. What TARGET held is kept for undo_operation."
    asks = True
    example = "copy_db test dev"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("source", metavar="SOURCE", help="dev, test or prod")
        parser.add_argument("target", metavar="TARGET", help="dev or test (prod: see the settings)")
        masks = parser.add_mutually_exclusive_group()
        masks.add_argument("--mask", action="store_true", help="mask personal data on the way")
        masks.add_argument(
            "--no-mask", action="store_true", help="copy a protected environment as it is"
        )
        parser.add_argument(
            "--strategy", choices=STRATEGIES, default="auto", help="how the rows travel"
        )
        parser.add_argument("--dry-run", action="store_true", help="say what would happen")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["mask"]:
            raise ConfigurationError("Masked copies are not available in this version.")
        source = conf.resolve_environment(options["source"])
        target = conf.resolve_environment(options["target"])
        wishes = {"strategy": options["strategy"], "unmasked": options["no_mask"]}
        if options["dry_run"]:
            policy.check_policy(
                Operation(kind=Operation.Kind.COPY, source=source, target=target, options=wishes),
                confirm=target,
            )
            self._show_plan(plan_copy(copy_request(source, target, wishes)))
            return
        self.confirm(
            f"Replace {target} by a copy of {source}?", Operation.Kind.COPY, target, options
        )
        outcome = self.run_operation(
            Operation.Kind.COPY, options, source=source, target=target, wishes=wishes
        )
        self._show(outcome)

    def _show(self, outcome: Outcome) -> None:
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        about = "" if result["rows_exact"] else "about "
        self.console.say(
            f"{outcome.operation.route}: {about}{result['rows']} rows in {result['tables']} tables "
            f"({size(result['bytes'])}) by {result['strategy']}, {result['triggers']} triggers, "
            f"out of use for {result['outage_ms']:.0f} ms.",
            style="green",
        )
        if result["previous"]:
            self.console.note(
                "What was there is kept. Put it back: python manage.py undo_operation "
                f"{outcome.operation.id}"
            )

    def _show_plan(self, plan: CopyPlan) -> None:
        source, target = plan.source.database, plan.target.database
        content: dict[str, Any] = {
            "strategy": plan.strategy,
            "source": plan.source.environment,
            "target": plan.target.environment,
            "bytes": source.size if source else 0,
            "replaces_bytes": target.size if target else 0,
            **dict.fromkeys(("rows", "tables", "outage_ms", "previous", "triggers")),
            "masked_columns": 0,
        }
        if self.console.as_json:
            self.console.result({"result": content})
            return
        self.console.say(
            f"Would copy {content['source']} ({size(content['bytes'])}) over {content['target']} "
            f"({size(content['replaces_bytes'])}) by {plan.strategy}. Nothing was done."
        )
