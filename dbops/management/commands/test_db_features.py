"""``test_db_features``: rehearse every capability on scratch databases of a server."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from dbops.exceptions import FeatureError
from dbops.features.feature import CATEGORIES, Tried
from dbops.features.rehearse import rehearse_features, write_log
from dbops.management.operation_command import DbopsCommand, environment_option
from dbops.wording import counted


class Command(DbopsCommand):
    help = (
        "Try every capability out on scratch databases of an environment's server, never on its "
        "own database; exit 1 if anything fails. Nothing is left behind but a log."
    )
    example = "test_db_features --config --env dev"
    takes_environment = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--all", action="store_true", help="every category (the default)")
        for category in CATEGORIES:
            parser.add_argument(
                f"--{category}", action="append_const", dest="categories", const=category,
                help=f"the features of {category}",
            )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        environment = environment_option(options)
        chosen = CATEGORIES if options["all"] else options["categories"] or CATEGORIES
        found = rehearse_features(environment, chosen, self._tell)
        log = write_log(environment, found)
        failed = [it for it in found if not it.passed]
        result = {
            "passed": len(found) - len(failed), "failed": len(failed), "log": str(log),
            "tests": [asdict(it) for it in found],
        }  # fmt: skip
        self.console.note(f"Log: {log}")
        if failed:
            tried = counted(len(found), "feature")
            sentence = f"{len(failed)} of {tried} failed on the server of {environment}."
            raise FeatureError(sentence, result=result)
        if self.console.as_json:
            self.console.result({"result": result})
        else:
            self.console.say(f"All {len(found)} features hold.", style="green")

    def _tell(self, tried: Tried) -> None:
        mark, style = ("passed", "green") if tried.passed else ("FAILED", "bold red")
        tell = self.console.note if self.console.as_json else self.console.say
        line = (
            f"{mark}  {tried.category:<10}  {tried.how:<7}  {tried.seconds:5.1f} s  {tried.title}"
        )
        tell(line, style=style)
        if tried.message:
            tell(f"        {tried.message}", style="red")
