"""Features of switching environments."""

from __future__ import annotations

from dbops.features.feature import expect, feature
from dbops.features.scratch import Scratch, finish
from dbops.operations.inspection import InspectRequest, inspect_environments
from dbops.postgres.connection import execute, fetch_value, session
from skinspire.environment import ENVIRONMENTS, discover_environment


@feature("switch-env", "all environments are seen side by side", "direct")
def environments_are_seen(scratch: Scratch) -> None:
    requests = [InspectRequest(name, scratch.database(name)) for name in ENVIRONMENTS]
    for name in ENVIRONMENTS:
        scratch.fill(name)
    for facts in inspect_environments(requests, patience=20):
        expect(facts.reachable, f"{facts.environment}: {facts.problem}")
        expect(facts.stamp == facts.environment, f"{facts.environment} is stamped {facts.stamp}.")


@feature("switch-env", "switch_env sets the environment that commands then use", "command")
def switching_holds(scratch: Scratch) -> None:
    answer = scratch.run("switch_env", "test")
    expect(answer.code == 0, f"switch_env failed, {answer.told}")
    found = discover_environment(scratch.home, {}).name
    expect(found == "test", f"The next process would run in {found}.")
    shown = scratch.run("switch_env", "--status").result
    expect(shown.get("environment") == "test", f"--status shows {shown.get('environment')}.")
    scratch.run("switch_env", "dev")


@feature("switch-env", "an unknown environment and an unexpected one are refused", "command")
def wrong_ones_are_refused(scratch: Scratch) -> None:
    scratch.run("switch_env", "dev")
    unknown = scratch.run("switch_env", "staging")
    expect(unknown.code in (1, 2) and unknown.error, f"It was not, {unknown.told}")
    expect(discover_environment(scratch.home, {}).name == "dev", "The environment changed.")
    expect(scratch.run("switch_env", "--expect", "test").code == 1, "--expect test passed in dev.")
    expect(scratch.run("switch_env", "--expect", "dev").code == 0, "--expect dev failed in dev.")


@feature("switch-env", "switching in mid-operation does not redirect the operation", "command")
def running_operations_stay(scratch: Scratch) -> None:
    scratch.fill("dev")
    scratch.fill("test")
    scratch.sql("dev", "DELETE FROM ward.sessions")
    scratch.run("switch_env", "dev")
    with session(scratch.database("dev")) as holder:
        execute(holder, "BEGIN")
        execute(holder, "LOCK TABLE ward.visits IN ACCESS EXCLUSIVE MODE")
        with scratch.start("dbbackup", "--json") as child:
            _wait_for_somebody_waiting(holder)
            switched = scratch.run("switch_env", "test")
            execute(holder, "ROLLBACK")
            answer = finish(child)
    expect(switched.code == 0, f"switch_env failed, {switched.told}")
    expect(answer.code == 0, f"dbbackup failed, {answer.told}")
    name = answer.result["name"]
    manifest = scratch.store.read_manifest(name)
    expect(manifest.environment == "dev", f"The backup is one of {manifest.environment}.")
    scratch.run("switch_env", "dev")


def _wait_for_somebody_waiting(holder: object) -> None:
    for _ in range(600):
        if fetch_value(holder, _WAITING):  # type: ignore[arg-type]
            return
        execute(holder, "SELECT pg_sleep(0.05)")  # type: ignore[arg-type]
    expect(False, "The backup never reached the locked table.")


_WAITING = """SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ward.visits'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
