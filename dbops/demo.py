"""The main job from end to end on the embedded server, with the sample clinic."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connections

from dbops import conf, runner
from dbops.exceptions import ConfigurationError, ProofError
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.triggers import VerifyTriggersRequest, verify_triggers
from dbops.postgres.connection import execute, fetch_value, session, transaction
from skinspire.environment import ENVIRONMENTS

OPERATOR = "operator"
CONSOLE_ENVIRONMENT = "test"
"""A console never writes above the environment it runs in; from test it can copy into dev."""
_SCHEMA = "clinic"


@dataclass(frozen=True)
class Step:
    """One thing the demo does, and the sentence it answers with."""

    title: str
    run: Callable[[], str]


def steps(actor: str) -> Iterator[Step]:
    """The steps up to the console, in order. Each raises what its operation raises."""

    def operate(kind: str, **where: object) -> dict[str, object]:
        operation, _ = runner.submit(kind, actor=actor, **where)  # type: ignore[arg-type]
        return dict(runner.run(operation).result)

    def initialise() -> str:
        for name in ENVIRONMENTS:
            operate(Operation.Kind.INIT, target=name, confirm=name)
        return "dev, test and prod are stamped and migrated"

    def apply() -> str:
        result = operate(Operation.Kind.TRIGGERS, target="test")
        return f"{result['triggers']} triggers on {result['tables']} tables of test"

    def back_up() -> str:
        result = operate(Operation.Kind.BACKUP, source="test")
        return f"{result['rows']} rows as {result['name']}"

    def copy() -> str:
        result = operate(Operation.Kind.COPY, source="test", target="dev")
        return f"{result['rows']} rows by {result['strategy']}, out for {result['outage_ms']} ms"

    def restore() -> str:
        latest = Operation.objects.filter(
            kind=Operation.Kind.BACKUP, status=Operation.Status.SUCCEEDED, source="test"
        ).latest("finished_at")
        name = latest.result["name"]
        result = operate(Operation.Kind.RESTORE, target="test", options={"name": name})
        return f"{result['rows']} rows proven, test out for {result['outage_ms']} ms"

    yield Step("start the embedded server", start_server)
    yield Step("create the three databases", initialise)
    yield Step("load the sample clinic into test", load_sample)
    yield Step("apply triggers to test", apply)
    yield Step("back up test", back_up)
    yield Step("copy test to dev", copy)
    yield Step("restore test from its backup", restore)
    yield Step("verify triggers", _verify)


def start_server() -> str:
    """Start the embedded server and bring ``control`` up."""
    missing = set(ENVIRONMENTS) - set(conf.embedded_environments())
    if missing:
        raise ConfigurationError(
            f"The demo uses the embedded server alone, but {', '.join(sorted(missing))} has a URL.",
            hint="Run it without DEV_, TEST_ and PROD_DATABASE_URL.",
        )
    status = conf.embedded_server().start(conf.embedded_environments())
    conf.refresh_embedded()
    call_command("migrate", database="control", interactive=False, verbosity=0)
    return f"PostgreSQL {status.version} on 127.0.0.1:{status.port}"


def load_sample() -> str:
    """Load the clinic into test, unless it is there from an earlier run."""
    script = resources.files("dbops.sample").joinpath("clinic.sql").read_text("utf-8")
    with session(conf.database_params("test"), actor="demo") as connection:
        if fetch_value(connection, "SELECT to_regnamespace(%s)", [_SCHEMA]):
            return "already there"
        with transaction(connection):
            execute(connection, script)
        execute(connection, "ANALYZE")
    return "loaded"


def create_operator() -> str:
    """An administrator in the console's environment, new or with a new password; the password."""
    password = secrets.token_urlsafe(12)
    alias = CONSOLE_ENVIRONMENT
    connections[alias].close()
    users = get_user_model()._default_manager.using(alias)
    user, _ = users.get_or_create(username=OPERATOR)
    user.set_password(password)
    user.save(using=alias)
    user.groups.set(Group.objects.using(alias).filter(name="administrator"))
    connections[alias].close()
    return password


def _verify() -> str:
    for name in ("dev", "test"):
        request = VerifyTriggersRequest(conf.database_params(name), name, conf.trigger_wishes())
        if verify_triggers(request, OperationContext("")).drift:
            raise ProofError(f"The triggers of {name} have drifted.")
    return "dev and test have them all"


def free_port(wanted: int) -> int:
    """``wanted`` if nobody listens there, else any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
