"""Features of copying between environments."""

from __future__ import annotations

from dbops.exceptions import SameDatabaseError
from dbops.features.feature import expect, expect_refused, feature
from dbops.features.scratch import Scratch
from dbops.operations.copy import CopyResult, copy_database
from dbops.operations.copy_plan import CopyRequest
from dbops.postgres.connection import session
from dbops.postgres.stamp import read_stamp

_CANARIES = "SELECT count(*) FROM ward.patients p WHERE p::text ILIKE '%canary%'"
_MORE = "INSERT INTO ward.sessions VALUES ('kept', 1)"


def _copy(scratch: Scratch, source: str, target: str, strategy: str) -> CopyResult:
    request = CopyRequest(
        source=scratch.database(source), source_environment=source,
        target=scratch.database(target), target_environment=target, strategy=strategy,
        pg_bin=scratch.pg_bin,
    )  # fmt: skip
    return copy_database(request, scratch.context())


@feature("copy", "a copy is equal to its source, by each way the rows can travel", "direct")
def copy_is_equal(scratch: Scratch) -> None:
    for strategy in ("template", "stream", "dump"):
        scratch.fill("test")
        scratch.empty("dev")
        result = _copy(scratch, "test", "dev", strategy)
        expect(scratch.rows("dev") == scratch.rows("test"), f"By {strategy} it is not.")
        expect(result.strategy == strategy, f"{result.strategy} was taken, not {strategy}.")
        with session(scratch.database("dev")) as connection:
            expect(read_stamp(connection) == "dev", "It is not stamped as its own environment.")


@feature("copy", "a database is not copied onto itself, whatever it is called", "direct")
def not_onto_itself(scratch: Scratch) -> None:
    scratch.fill("test")
    same = scratch.database("test")
    request = CopyRequest(same, "test", same, "test", pg_bin=scratch.pg_bin)
    expect_refused(SameDatabaseError, lambda: copy_database(request, scratch.context()))


@feature("copy", "copy_db copies and undo_operation takes it back", "command")
def command_copies(scratch: Scratch) -> None:
    scratch.fill("test")
    scratch.fill("dev")
    scratch.sql("test", _MORE)
    before = scratch.rows("dev")
    copied = scratch.run("copy_db", "test", "dev", "--noinput")
    expect(copied.code == 0, f"copy_db failed, {copied.told}")
    expect(scratch.rows("dev") == scratch.rows("test"), "The copy is not equal to its source.")
    undone = scratch.run("undo_operation", "--noinput")
    expect(undone.code == 0, f"undo_operation failed, {undone.told}")
    expect(scratch.rows("dev") == before, "Undo did not bring back what the copy replaced.")


@feature("copy", "--schema-only keeps the target's rows, --data-only its schema", "command")
def parts_are_copied(scratch: Scratch) -> None:
    scratch.fill("test")
    scratch.fill("dev")
    scratch.sql("dev", _MORE)
    scratch.sql("test", "ALTER TABLE ward.sessions ADD COLUMN seen integer")
    answer = scratch.run("copy_db", "test", "dev", "--schema-only", "--noinput")
    expect(answer.code == 0, f"copy_db --schema-only failed, {answer.told}")
    kept = scratch.sql("dev", "SELECT count(*) - count(seen) FROM ward.sessions")
    expect(kept == 21, "The target did not keep its rows, or did not get the column.")
    scratch.sql("dev", "ALTER TABLE ward.sessions ADD COLUMN own integer")
    answer = scratch.run("copy_db", "test", "dev", "--data-only", "--noinput")
    expect(answer.code == 0, f"copy_db --data-only failed, {answer.told}")
    rows = scratch.sql("dev", "SELECT count(*) - count(own) FROM ward.sessions")
    expect(rows == 20, "The target did not take the rows, or did not keep its column.")


@feature("copy", "out of prod values are masked, so that none is found in the copy", "command")
def masks_hold(scratch: Scratch) -> None:
    scratch.fill("prod")
    scratch.sql("prod", "UPDATE ward.patients SET name = 'Canary', email = 'canary' || email")
    answer = scratch.run("copy_db", "prod", "dev", "--noinput")
    expect(answer.code == 0, f"copy_db failed, {answer.told}")
    found = scratch.sql("dev", _CANARIES)
    expect(found == 0, f"{found} rows still hold what should be masked.")
    expect(scratch.sql("dev", "SELECT count(*) FROM ward.patients") == 300, "Rows are missing.")


@feature("copy", "a copy into prod, and one that nobody confirms, are refused", "command")
def refused_copies(scratch: Scratch) -> None:
    for name in ("dev", "test", "prod"):
        scratch.fill(name)
    scratch.sql("test", _MORE)
    before = scratch.rows("prod"), scratch.rows("dev")
    protected = scratch.run("copy_db", "test", "prod", "--noinput", "--confirm", "prod")
    expect(protected.error.get("code") == "refused", f"It was not, {protected.told}")
    unconfirmed = scratch.run("copy_db", "test", "dev")
    expect(unconfirmed.error.get("code") == "not_confirmed", f"It was not, {unconfirmed.told}")
    expect((scratch.rows("prod"), scratch.rows("dev")) == before, "A target was changed.")
