"""``demo``: everything on the embedded server with sample data, then the console."""

import os
import signal
import sys
import time
from argparse import ArgumentParser
from contextlib import ExitStack, suppress
from typing import Any

from django.conf import settings

from dbops import demo
from dbops.management.operation_command import DbopsCommand
from dbops.postgres.process import Child


class Command(DbopsCommand):
    help = "Run the main job on the embedded server with a sample clinic, then serve the console."
    example = "demo --no-serve"
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--no-serve", action="store_true", help="end after the steps")
        parser.add_argument("--port", type=int, default=8000, help="of the console (default: 8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        timings = {step.title: self._run(step) for step in demo.steps(self.actor())}
        password = demo.create_operator()
        if self.console.as_json:
            self.console.result({"result": {"steps": timings}})
        if options["no_serve"]:
            self.console.note("Done. The server goes on; stop it: python manage.py pg stop")
            return
        self._serve(demo.free_port(options["port"]), password)

    def _run(self, step: demo.Step) -> float:
        began = time.monotonic()
        self.console.note(f"{step.title} …")
        answer = step.run()
        seconds = time.monotonic() - began
        self.console.note(f"  {answer} ({seconds:.2f} s)", style="green")
        return round(seconds, 3)

    def _serve(self, port: int, password: str) -> None:
        environment = {**os.environ, "SKINSPIRE_ENV": demo.CONSOLE_ENVIRONMENT}
        manage = str(settings.BASE_DIR / "manage.py")
        gunicorn = [
            sys.executable, "-m", "gunicorn", "skinspire.wsgi", f"--bind=127.0.0.1:{port}",
            "--workers=2", "--log-level=warning",
        ]  # fmt: skip
        db_worker = [sys.executable, manage, "db_worker"]
        with ExitStack() as stack:
            console, worker = (
                stack.enter_context(
                    Child(argv, environment=environment, stdout=None, cwd=settings.BASE_DIR)
                )
                for argv in (gunicorn, db_worker)
            )
            tell = self.console.note if self.console.as_json else self.console.say
            tell(f"Console:  http://127.0.0.1:{port}/")
            tell(f"User:     {demo.OPERATOR}")
            tell(f"Password: {password}")
            self.console.note("Ctrl-C ends the console; the server goes on (manage.py pg stop).")
            with suppress(KeyboardInterrupt):
                # Both end the console in order; and a shell may have told us to ignore Ctrl-C.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.default_int_handler)
                console.wait()
            worker.stop()
