"""What every command shares: ``--json``, ``--noinput``, ``--confirm``, progress, exit codes.

Commands parse, call and show. An error of ours becomes one line on standard error and its exit
code here, and nowhere else.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseLayerError

from dbops import conf, policy, runner
from dbops.exceptions import (
    ConfirmationError,
    DbopsError,
    OperationCancelled,
    OperationNotFoundError,
    UsageError,
    as_dbops_error,
)
from dbops.management.console import Console
from dbops.models import Operation
from dbops.watch import Terminated
from skinspire.acting import Actor, acting_as, os_account

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_CANCELLED = 130
EXIT_TERMINATED = 143
_MOST_JOBS = 64
_LONGEST_ARGUMENT = 1 << 16
_LONGEST_NAME = 60


class DbopsCommand(BaseCommand):
    """A command whose errors are one line, and one JSON object under ``--json``."""

    # Ours and Django's of security; those of models and URLs concern who writes code, and loading
    # every URL takes a third of a short command's time.
    requires_system_checks: tuple[str, ...] = (Tags.security,)
    takes_environment = False
    asks = False
    example = ""
    console: Console
    _argv: Sequence[str] = ()
    _named = ""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        if self.example:
            kwargs.setdefault("epilog", f"Example: python manage.py {self.example}")
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # Here, because not every command asks its parents for their arguments.
        parser.add_argument(
            "--actor", metavar="NAME", type=_name,
            help="who has it done; recorded beside the account of the operating system",
        )  # fmt: skip
        self._tell_misuse(parser, f"{prog_name} {subcommand}")
        return parser

    def _tell_misuse(self, parser: CommandParser, name: str) -> None:
        """Under ``--json``, wrong usage is an object on standard output, too."""
        say_usage = parser.error

        def error(message: str) -> None:
            if "--json" in self._argv:
                console = Console(self.stdout, self.stderr, as_json=True)
                console.json_error("usage", message, f"python {name} --help")
            say_usage(message)

        parser.error = error  # type: ignore[method-assign]

    def run_from_argv(self, argv: list[str]) -> None:
        """From the command line; argparse would print back whatever it does not understand."""
        self._argv = argv
        if problem := _unprintable(argv):
            console = Console(self.stdout, self.stderr, as_json="--json" in argv)
            console.error(UsageError(problem, hint=f"python manage.py {argv[1]} --help"))
            sys.exit(EXIT_USAGE)
        super().run_from_argv(argv)

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_json_argument(parser)
        add_noinput_argument(parser)
        if self.takes_environment:
            parser.add_argument(
                "--env", metavar="ENV", help="dev, test or prod (default: the active one)"
            )
        if self.asks:
            add_confirm_argument(parser)

    def execute(self, *args: Any, **options: Any) -> Any:
        self.console = Console(self.stdout, self.stderr, as_json=bool(options.get("json")))
        self._named = str(options.get("actor") or "")
        try:
            with acting_as(Actor(self.actor())):
                return super().execute(*args, **options)
        except CommandError as error:
            if self.console.as_json:
                self.console.json_error("configuration", str(error), "")
            raise
        except (KeyboardInterrupt, Exception) as error:
            if options.get("traceback"):
                raise
            raise self._report(*_told(error)) from error

    def _report(self, error: DbopsError, code: int) -> BaseException:
        if not getattr(self, "_called_from_command_line", False):
            return CommandError(str(error), returncode=code)
        self.console.error(error)
        return SystemExit(code)

    def actor(self) -> str:
        """Who acts at a command line: the account of the operating system, behind whoever
        ``--actor`` names. A name is a claim; the account is what the kernel says."""
        account = os_account()
        return f"{self._named} (by {account})" if self._named else account

    def run_operation(
        self,
        kind: str,
        options: Mapping[str, Any],
        wishes: Mapping[str, Any] | None = None,
        source: str = "",
        target: str = "",
    ) -> runner.Outcome:
        """Submit and run here and now, showing progress.

        Args:
            options: of the command line; ``--confirm`` is taken from them.
            wishes: the operation's own options, as they are recorded.
        """
        operation, _ = runner.submit(
            kind, actor=self.actor(), confirm=options.get("confirm") or "",
            options=wishes, source=source, target=target,
        )  # fmt: skip
        with self.console.progress() as listener:
            return runner.run(operation, listener)

    def confirm(
        self,
        question: str,
        kind: str,
        options: Mapping[str, Any],
        *,
        source: str = "",
        target: str = "",
        wishes: Mapping[str, Any] | None = None,
    ) -> None:
        """Ask before something is replaced; what would be refused anyway nobody is asked about.

        Args:
            options: of the command line.
            wishes: the operation's own options, as they will be recorded.

        Raises:
            ConfirmationError: nobody can be asked, or the answer was no.
            DbopsError: the operation would be refused however it is confirmed.
        """
        typed = options.get("confirm") or ""
        name_is_missing = policy.needs_typed_name(kind, target) and typed != target
        if not options["interactive"] and not name_is_missing:
            return
        runner.look_ahead(kind, source=source, target=target, actor=self.actor(), options=wishes)
        policy.require_typed_name(kind, target, typed)
        if not sys.stdin.isatty():
            raise ConfirmationError(
                f"{question} Nobody is there to answer.", hint="Confirm it with --noinput"
            )
        if not self.console.ask(question):
            raise ConfirmationError("Not confirmed; nothing was done.")


def _unprintable(argv: Sequence[str]) -> str:
    """What is wrong with arguments that no name, path or pattern can be; "" for nothing."""
    if any("\0" in argument for argument in argv):
        return "An argument holds a NUL character."
    if any(len(argument) > _LONGEST_ARGUMENT for argument in argv):
        return f"An argument is longer than {_LONGEST_ARGUMENT:,} characters."
    return ""


def add_json_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_noinput_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--noinput", "--no-input", action="store_false", dest="interactive", help="never prompt"
    )


def add_confirm_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--confirm", metavar="ENV", help="the name of the protected environment to be written"
    )


def add_jobs_argument(parser: ArgumentParser, what: str) -> None:
    parser.add_argument("--jobs", metavar="N", type=_positive, help=what)


def add_load_arguments(parser: ArgumentParser) -> None:
    """What every command that loads a backup takes."""
    add_jobs_argument(parser, "how many load side by side (default: by CPUs)")
    parser.add_argument(
        "--no-mask",
        action="store_true",
        help="let a protected environment's backup onto another one's server as it is",
    )


def _name(text: str) -> str:
    """A name that cannot pass for more than a name: "x (by root)" could."""
    name = text.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable() or set(name) & set("()"):
        raise ArgumentTypeError(
            f"a name of at most {_LONGEST_NAME} printable characters, without parentheses"
        )
    return name


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_JOBS:
        raise ArgumentTypeError(f"a number from 1 to {_MOST_JOBS}, not {text!r}")
    return int(text)


def environment_option(options: Mapping[str, Any]) -> str:
    """The environment an option names, or the active one. Raises UnknownEnvironmentError."""
    return conf.resolve_environment(options["env"])


def named_environment(options: Mapping[str, Any]) -> str | None:
    """What ``-d`` or ``--env`` names. Raises UsageError where they name two."""
    database, environment = options["database"], options["env"]
    if database is not None and environment is not None and database != environment:
        raise UsageError(f"-d {database} and --env {environment} contradict each other.")
    return environment if database is None else database


def operation_json(outcome: runner.Outcome) -> dict[str, Any]:
    """``{"operation": …, "result": …}``."""
    return {"operation": outcome.operation.to_json(), "result": dict(outcome.result)}


def find_operation(operation_id: str) -> Operation:
    """The operation of that id. Raises OperationNotFoundError."""
    try:
        return Operation.objects.get(pk=operation_id)
    except Operation.DoesNotExist:
        raise OperationNotFoundError(f"There is no operation {operation_id[:40]!r}.") from None


def _told(error: BaseException) -> tuple[DbopsError, int]:
    """The sentence and the exit code for whatever ended a command."""
    if isinstance(error, DatabaseLayerError):
        first = (str(error).splitlines() or ["no message"])[0]
        return DbopsError(
            f"The control database cannot be used: {first}.",
            hint="If it is new, or its file was removed: python manage.py migrate",
        ), EXIT_REFUSED
    told = as_dbops_error(error)
    if isinstance(error, Terminated):
        return told, EXIT_TERMINATED
    if isinstance(told, OperationCancelled):
        return told, EXIT_CANCELLED
    return told, EXIT_USAGE if isinstance(told, UsageError) else EXIT_REFUSED
