"""``check_db``: is a database well?"""

from typing import Any

from dbops.exceptions import CheckFailedError
from dbops.kinds.upkeep import check_request
from dbops.management.operation_command import DbopsCommand, environment_option
from dbops.operations.checkup import Check, CheckResult, check_db
from dbops.operations.context import OperationContext
from dbops.postgres.names import visible

_SIGNS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}


class Command(DbopsCommand):
    help = (
        "Check a database: reachable, version, size, connections, stamp, migrations, triggers, "
        "last backup; exit 1 if anything is not well."
    )
    example = "check_db --env test"
    takes_environment = True

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        result = check_db(check_request(environment), OperationContext("", actor=self.actor()))
        found = {"checks": [_as_json(it) for it in result.checks]}
        if not self.console.as_json:
            self._show(result)
        if result.failed:
            names = ", ".join(it.name for it in result.failed)
            hint = next((it.hint for it in result.failed if it.hint), "")
            raise CheckFailedError(f"{environment} is not well: {names}.", hint=hint, result=found)
        if self.console.as_json:
            self.console.result({"result": found})

    def _show(self, result: CheckResult) -> None:
        for check in result.checks:
            sign, style = _SIGNS[check.ok]
            self.console.say(f"{sign} {check.name:<12}  {visible(check.value)}", style=style)


def _as_json(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "value": check.value}
