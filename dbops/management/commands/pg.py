"""``pg``: the embedded server."""

from argparse import ArgumentParser
from typing import Any

from dbops import conf
from dbops.management.operation_command import DbopsCommand


class Command(DbopsCommand):
    help = "Start, stop or look at the embedded PostgreSQL server."
    example = "pg start"
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "action", nargs="?", choices=("start", "stop", "status"), default="status"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        server = conf.embedded_server()
        if options["action"] == "start":
            status = server.start(conf.embedded_environments())
        else:
            status = server.stop() if options["action"] == "stop" else server.status()
        content = {
            "state": status.state, "port": status.port,
            "version": status.version, "data": status.data,
        }  # fmt: skip
        if self.console.as_json:
            self.console.result({"result": content})
            return
        where = f" on 127.0.0.1:{status.port}" if status.state == "running" else ""
        version = f"PostgreSQL {status.version} " if status.version else ""
        self.console.say(f"{version}{status.state}{where}")
        self.console.say(f"data: {status.data}")
