"""``copy_db``: one environment's database over another's."""

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dbops import conf, policy
from dbops.catalogue import expected_seconds
from dbops.kinds.copies import copy_request
from dbops.management.console import size
from dbops.management.copy_arguments import add_copy_arguments, copy_options
from dbops.management.operation_command import DbopsCommand, operation_json
from dbops.models import Operation
from dbops.operations.copy_plan import CopyPlan, CopySurvey, plan_copy, survey_copy
from dbops.runner import Outcome
from dbops.wording import counted

_QUESTIONS = {
    "full": "Replace {target} by a copy of {source}?",
    "schema": "Give {target} the schema of {source}, keeping its own rows?",
    "data": "Replace the rows of {target} by those of {source}?",
}


class Command(DbopsCommand):
    help = (
        "Copy SOURCE over TARGET. What TARGET held is kept for undo_operation. Out of a protected "
        "environment values are masked on the way (see skinspire/masking.toml)."
    )
    asks = True
    example = "copy_db test dev"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("source", metavar="SOURCE", help="dev, test or prod")
        parser.add_argument("target", metavar="TARGET", help="dev or test (prod: see the settings)")
        add_copy_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="say what would happen")

    def handle(self, *args: Any, **options: Any) -> None:
        source = conf.resolve_environment(options["source"])
        target = conf.resolve_environment(options["target"])
        wishes = copy_options(options)
        if options["dry_run"]:
            self._plan(source, target, wishes)
            return
        question = _QUESTIONS[wishes.get("part", "full")].format(source=source, target=target)
        copy: Any = {"source": source, "target": target, "wishes": wishes}
        self.confirm(question, Operation.Kind.COPY, options, **copy)
        self._show(self.run_operation(Operation.Kind.COPY, options, **copy))

    def _show(self, outcome: Outcome) -> None:
        if self.console.as_json:
            self.console.result(operation_json(outcome))
            return
        result = outcome.result
        about = "" if result["rows_exact"] else "about "
        masked = result["masked_columns"]
        masked = f", {counted(masked, 'column')} masked" if masked else ""
        self.console.say(
            f"{outcome.operation.route}: {about}{counted(result['rows'], 'row')} in "
            f"{counted(result['tables'], 'table')} "
            f"({size(result['bytes'])}) by {result['strategy']} ({result['reason']}){masked}, "
            f"{counted(result['triggers'], 'trigger')}, out of use for "
            f"{result['outage_ms']:.0f} ms.",
            style="green",
        )
        for what, tables in (("Emptied", result["defused"]), ("Left out", result["left_out"])):
            if tables:
                told = [f"{counted(rows, 'row')} of {table}" for table, rows in tables.items()]
                self.console.note(f"{what}: {', '.join(told)}")
        if result["previous"]:
            self.console.note(
                "What was there is kept. Put it back: python manage.py undo_operation "
                f"{outcome.operation.id}"
            )

    def _plan(self, source: str, target: str, wishes: Mapping[str, Any]) -> None:
        policy.check_policy(
            Operation(kind=Operation.Kind.COPY, source=source, target=target, options=dict(wishes)),
            confirm=target,
        )
        request = copy_request(source, target, wishes)
        plan = plan_copy(request)
        survey = survey_copy(request, plan)
        seconds = expected_seconds(source, target, plan.strategy, survey.bytes)
        if self.console.as_json:
            self.console.result({"result": _plan_json(plan, survey, seconds)})
            return
        self._show_plan(plan, survey, seconds)

    def _show_plan(self, plan: CopyPlan, survey: CopySurvey, seconds: float) -> None:
        replaced = plan.target.database.size if plan.target.database else 0
        lines = [
            f"Would copy {plan.source.environment} over {plan.target.environment} "
            f"({size(replaced)}) by {plan.strategy}: {plan.reason}.",
            f"About {counted(survey.rows, 'row')} in {counted(survey.tables, 'table')}, "
            f"{size(survey.bytes)}, in about {seconds:.0f} s.",
        ]
        if survey.masks:
            lines.append(f"Masked: {counted(survey.masked_columns, 'column')}")
            lines += [f"  {table}: {', '.join(names)}" for table, names in survey.masks.items()]
        for what, tables in (("Empty", survey.emptied), ("Preserved", survey.preserved)):
            if tables:
                lines.append(f"{what}: {', '.join(tables)}")
        for line in (*lines, *survey.notes, "Nothing was done."):
            self.console.say(line)


def _plan_json(plan: CopyPlan, survey: CopySurvey, seconds: float) -> dict[str, Any]:
    return {
        "strategy": plan.strategy,
        "reason": plan.reason,
        "source": plan.source.environment,
        "target": plan.target.environment,
        "replaces_bytes": plan.target.database.size if plan.target.database else 0,
        "expected_seconds": round(seconds, 1),
        **asdict(survey),
        "masked_columns": survey.masked_columns,
        **dict.fromkeys(("outage_ms", "previous", "triggers")),
    }
