"""``masking``: what the rules do to each table, what they do not cover, and rules to begin with."""

import difflib
from argparse import ArgumentParser
from collections import Counter
from dataclasses import asdict
from typing import Any

from dbops import conf
from dbops.exceptions import MaskingError, UsageError
from dbops.management.operation_command import DbopsCommand
from dbops.masking import plan as planning
from dbops.masking.plan import MaskPlan, plan_masks
from dbops.masking.probe import preview_rows
from dbops.masking.suggest import suggest_rules
from dbops.masking.survey import survey_tables
from dbops.postgres.connection import Connection, session
from dbops.wording import counted

_MOST_ROWS = 100
_WIDTH = 60


class Command(DbopsCommand):
    help = "Show what a masked copy does to each column, and help to write the rules."
    example = "masking --missing"

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--env", metavar="ENV", default="prod", help="dev, test or prod (default: prod)"
        )
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--missing", action="store_true", help="columns that nothing covers; exit 1 if any"
        )
        which.add_argument("--suggest", action="store_true", help="rules for those, to be read")
        which.add_argument(
            "--preview",
            metavar="TABLE",
            help="the masked columns of some rows as a copy would hold them",
        )
        parser.add_argument(
            "--limit", metavar="N", type=int, default=5, help="rows of a preview (default: 5)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment = conf.resolve_environment(options["env"])
        rules = conf.masking_rules()
        with session(conf.database_params(environment)) as connection:
            plan = plan_masks(connection, rules)
            if options["missing"]:
                self._show_missing(environment, plan)
            elif options["suggest"]:
                self._suggest(connection, plan)
            elif options["preview"] is not None:
                self._preview(connection, plan, options["preview"], options["limit"])
            else:
                self._show_summary(environment, plan)

    def _show_summary(self, environment: str, plan: MaskPlan) -> None:
        tables = _summary(plan)
        if self.console.as_json:
            self.console.result({"result": {
                "environment": environment, "tables": tables, "notes": plan.notes,
                "large_objects": plan.large_objects, "problems": plan.problems,
                "missing": [asdict(each) for each in plan.missing],
            }})  # fmt: skip
            return
        rows = [
            (each["table"], "left out" if each["left_out"] else "", str(each["masked"] or ""),
             str(each["kept"] or ""), str(each["safe"] or ""), str(each["missing"] or ""))
            for each in tables
        ]  # fmt: skip
        self.console.table(("table", "rows", "masked", "kept", "safe", "missing"), rows)
        for note in plan.notes:
            self.console.say(note)
        for problem in plan.problems:
            self.console.say(problem, style="red")
        if plan.missing:
            self.console.note("Rules to begin with: python manage.py masking --suggest")

    def _show_missing(self, environment: str, plan: MaskPlan) -> None:
        missing = [asdict(each) for each in plan.missing]
        if not self.console.as_json:
            for each in plan.missing:
                self.console.say(f"{each.table}.{each.column}  {each.type}")
        if missing:
            where = f"of {environment}"
            uncovered = counted(len(missing), f"column {where} is", f"columns {where} are")
            raise MaskingError(
                f"{uncovered} covered by no masking rule.",
                hint="Rules to begin with: python manage.py masking --suggest",
                result={"missing": missing},
            )
        if self.console.as_json:
            self.console.result({"result": {"missing": missing}})
        else:
            self.console.say(f"Every column of {environment} is covered.", style="green")

    def _suggest(self, connection: Connection, plan: MaskPlan) -> None:
        pairs = [(each.table, each.column) for each in plan.missing]
        text = suggest_rules(pairs, survey_tables(connection))
        if self.console.as_json:
            self.console.result({"result": {"toml": text, "columns": len(pairs)}})
        elif text:
            self.console.say(text.rstrip("\n"))
        else:
            self.console.note("Nothing is missing.")

    def _preview(self, connection: Connection, plan: MaskPlan, name: str, limit: int) -> None:
        if not 1 <= limit <= _MOST_ROWS:
            raise UsageError(f"--limit must be a number from 1 to {_MOST_ROWS}.")
        tables = survey_tables(connection)
        table = tables.get(name) or tables.get(f"public.{name}")
        if table is None:
            near = difflib.get_close_matches(name[:200], tables, 3)
            raise UsageError(
                f"There is no table {name[:200]!r}.",
                hint=f"Did you mean {' or '.join(near)}?"
                if near
                else "Name it as schema.table; python manage.py masking lists them.",
            )
        masked = next(
            (plan.columns[each.label] for each in tables.values()
             if each.root == table.root and each.label in plan.columns), {},
        )  # fmt: skip
        rows = preview_rows(connection, table, masked, limit, conf.masking_key()) if masked else []
        if self.console.as_json:
            listed = [dict(zip(masked, row, strict=True)) for row in rows]
            self.console.result({"result": {"table": table.label, "rows": listed}})
        elif not masked:
            self.console.note(f"No column of {table.label} is masked.")
        else:
            self.console.records(list(masked), [list(map(_shown, row)) for row in rows])
            self.console.note(
                f"So a masked copy holds {table.label}; columns that are not masked are not shown."
            )


def _shown(value: str | None) -> str:
    if value is None:
        return ""
    return value if len(value) <= _WIDTH else f"{value[: _WIDTH - 1]}…"


def _summary(plan: MaskPlan) -> list[dict[str, Any]]:
    """Per table, a partition's at its root: how many columns meet which fate."""
    fates: dict[str, Counter[str]] = {}
    for each in plan.decisions:
        fates.setdefault(each.table, Counter())[each.how] += 1
    found = []
    for table, fate in fates.items():
        total = fate.total()
        kept, missing = fate["keep"], fate[planning.UNCOVERED]
        safe = fate[planning.SAFE] + fate[planning.GENERATED]
        found.append({
            "table": table, "left_out": fate[planning.LEFT_OUT] > 0, "kept": kept, "safe": safe,
            "missing": missing,
            "masked": total - kept - safe - missing - fate[planning.LEFT_OUT],
            "strategies": dict(fate),
        })  # fmt: skip
    return found
