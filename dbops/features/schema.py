"""Features of the schema: bringing up, migrating, resetting, dropping, maintaining."""

from __future__ import annotations

from dataclasses import replace

from dbops.exceptions import StampError
from dbops.features.feature import expect, expect_refused, feature
from dbops.features.scratch import Answer, Scratch
from dbops.operations.maintenance import Finish, InitRequest, init_db


def _nothing_to_migrate(finish: Finish) -> None:
    """The sample has no migrations of its own."""


@feature("schema", "a database with tables but no stamp is taken in only when told to", "direct")
def adoption_is_explicit(scratch: Scratch) -> None:
    params = scratch.fill("test")
    scratch.sql("test", "DELETE FROM skinspire.stamp")
    request = InitRequest(params, "test", _nothing_to_migrate)
    expect_refused(StampError, lambda: init_db(request, scratch.context()))
    adopted = init_db(replace(request, adopt=True), scratch.context())
    expect(adopted.adopted, "It was not taken in with --adopt.")


@feature("schema", "migrations are rehearsed, applied and shown", "command")
def migrations_are_applied(scratch: Scratch) -> None:
    scratch.fill("test")
    rehearsed = _done(scratch, "apply_migration", "--env", "test", "--rehearse")
    expect(rehearsed.result.get("rehearsal"), "The rehearsal reports nothing.")
    applied = _done(scratch, "apply_migration", "--env", "test")
    expect(applied.result.get("migrations"), "No migration was applied.")
    shown = _done(scratch, "show_migrations")
    expect(shown.result.get("migrations"), "No migration is shown.")
    again = _done(scratch, "apply_migration", "--env", "test")
    expect(not again.result.get("migrations"), "A second run applied something.")


@feature("schema", "the latest migration is rolled back and applied again", "command")
def migrations_are_rolled_back(scratch: Scratch) -> None:
    scratch.fill("test")
    _done(scratch, "apply_migration", "--env", "test")
    back = _done(scratch, "rollback_migration", "--env", "test", "--steps", "1", "--noinput")
    expect(back.result.get("migrations"), "None was rolled back.")
    again = _done(scratch, "apply_migration", "--env", "test")
    expect(again.result.get("migrations"), "None came back.")


@feature("schema", "reset_db and drop_all_tables empty a database, undo brings it back", "command")
def emptying_can_be_undone(scratch: Scratch) -> None:
    for command in ("reset_db", "drop_all_tables"):
        scratch.fill("dev")
        before = scratch.rows("dev")
        refused = scratch.run(command, "--env", "dev")
        expect(refused.error.get("code") == "not_confirmed", f"{command} asked nobody.")
        expect(scratch.rows("dev") == before, f"{command}, refused, changed rows.")
        _done(scratch, command, "--env", "dev", "--noinput")
        gone = scratch.sql("dev", "SELECT to_regclass('ward.patients') IS NULL")
        expect(gone, f"{command} left tables.")
        _done(scratch, "undo_operation", "--noinput")
        expect(scratch.rows("dev") == before, f"Undo did not take {command} back.")


@feature("schema", "maintain_db tidies what is due and changes no row", "command")
def maintenance_changes_no_row(scratch: Scratch) -> None:
    scratch.fill("test")
    before = scratch.rows("test")
    scratch.sql("test", "UPDATE ward.patients SET notes = notes")
    _done(scratch, "maintain_db", "--env", "test", "--dry-run")
    _done(scratch, "maintain_db", "--env", "test")
    expect(scratch.rows("test") == before, "Rows were changed.")


@feature("schema", "diff_db tells drift by exit code 1", "command")
def drift_is_told(scratch: Scratch) -> None:
    scratch.fill("test")
    scratch.fill("dev")
    _done(scratch, "diff_db", "test", "dev")
    scratch.sql("dev", "DROP VIEW ward.fees")
    expect(scratch.run("diff_db", "test", "dev").code == 1, "A missing view was not told.")


def _done(scratch: Scratch, *arguments: str) -> Answer:
    answer = scratch.run(*arguments)
    expect(answer.code == 0, f"{arguments[0]} failed, {answer.told}")
    return answer
