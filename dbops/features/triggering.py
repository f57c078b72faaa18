"""Features of triggers."""

from __future__ import annotations

from dbops.features.feature import expect, feature
from dbops.features.scratch import Scratch
from dbops.operations.triggers import (
    ApplyTriggersRequest,
    VerifyTriggersRequest,
    apply_triggers,
    verify_triggers,
)
from dbops.postgres.connection import execute, fetch_row, session, transaction

_INSERT = "INSERT INTO ward.patients (name, born) VALUES ('New', '2000-01-01')"


@feature("triggers", "an INSERT fills time and actor, an UPDATE moves them", "direct")
def rows_are_stamped(scratch: Scratch) -> None:
    params = scratch.fill("test")
    apply_triggers(ApplyTriggersRequest(params, "test"), scratch.context())
    with session(params, actor="someone with a long name") as connection:
        execute(connection, _INSERT)
        row = fetch_row(connection, _NEW)
        with transaction(connection):
            execute(connection, "SELECT pg_sleep(0.01)")
            execute(connection, "UPDATE ward.patients SET email = 'n@x.org' WHERE name = 'New'")
        moved = fetch_row(connection, _NEW)
    assert row is not None
    assert moved is not None
    created, updated, by, last = row
    expect(created and updated, "The times of an INSERT were not filled in.")
    expect(by == "someone with a " and last == "someone with a long name", "The actor was not.")
    expect(moved[0] == created and moved[1] > updated, "An UPDATE did not move updated_at alone.")


_NEW = """SELECT created_at, updated_at, created_by, updated_by
            FROM ward.patients WHERE name = 'New'"""


@feature("triggers", "installing twice changes nothing, and what is missing is found", "direct")
def drift_is_found(scratch: Scratch) -> None:
    params = scratch.fill("test")
    request = ApplyTriggersRequest(params, "test")
    apply_triggers(request, scratch.context())
    again = apply_triggers(ApplyTriggersRequest(params, "test", dry_run=True), scratch.context())
    expect(not again.statements, "A second installation would change something.")
    scratch.sql("test", "ALTER TABLE ward.patients DISABLE TRIGGER USER")
    found = verify_triggers(VerifyTriggersRequest(params, "test"), scratch.context())
    expect(found.disabled, "A disabled trigger was not found.")


@feature("triggers", "apply_triggers, verify_triggers and test_triggers agree", "command")
def commands_agree(scratch: Scratch) -> None:
    scratch.fill("test")
    verified = scratch.run("verify_triggers", "--env", "test")
    expect(verified.code == 1, "Missing ones were not found.")
    applied = scratch.run("apply_triggers", "--env", "test")
    expect(applied.code == 0 and applied.result["triggers"], f"None were applied, {applied.told}")
    before = scratch.rows("test")
    for command in ("verify_triggers", "test_triggers"):
        answer = scratch.run(command, "--env", "test")
        expect(answer.code == 0, f"{command} failed, {answer.told}")
    expect(scratch.rows("test") == before, "Testing the triggers changed rows.")


@feature("triggers", "where one table refuses, none is installed", "command")
def all_or_none(scratch: Scratch) -> None:
    scratch.fill("test")
    with session(scratch.database("test")) as connection, transaction(connection):
        execute(connection, "LOCK TABLE ward.visits IN ACCESS EXCLUSIVE MODE")
        answer = scratch.run("apply_triggers", "--env", "test")
    expect(answer.code == 1, "A locked table did not stop it.")
    count = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'skinspire%'"
    expect(scratch.sql("test", count) == 0, "Some triggers were installed.")
