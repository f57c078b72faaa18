"""``verify_triggers``: which triggers are as they should be, which not, which are of others."""

from dataclasses import asdict
from typing import Any

from dbops import conf
from dbops.exceptions import TriggerDriftError
from dbops.management.operation_command import DbopsCommand, environment_option
from dbops.operations.context import OperationContext
from dbops.operations.triggers import VerifyTriggersRequest, verify_triggers


class Command(DbopsCommand):
    help = "Compare the installed triggers with those that should be; exit 1 on any drift."
    example = "verify_triggers --env dev"
    takes_environment = True

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        request = VerifyTriggersRequest(
            conf.database_params(environment), environment, conf.trigger_wishes()
        )
        result = verify_triggers(request, OperationContext("", actor=self.actor()))
        counted = asdict(result)
        drift = [f"{len(result.missing)} missing", f"{len(result.outdated)} outdated",
                 f"{len(result.disabled)} disabled"]  # fmt: skip
        if not self.console.as_json:
            self._show(environment, counted)
        if result.drift:
            sentence = f"The triggers of {environment} have drifted: {', '.join(drift)}."
            raise TriggerDriftError(
                sentence, hint=f"Install them: python manage.py apply_triggers --env {environment}",
                result=counted,
            )  # fmt: skip
        if self.console.as_json:
            self.console.result({"result": counted})

    def _show(self, environment: str, counted: dict[str, tuple[str, ...]]) -> None:
        for state, names in counted.items():
            self.console.say(f"{environment}: {len(names)} {state}")
            if state != "installed":
                for name in names:
                    self.console.say(f"  {name}")
