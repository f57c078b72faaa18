"""Features of backup and restore."""

from __future__ import annotations

from functools import partial

from dbops.exceptions import BackupInvalidError
from dbops.features.feature import FeatureFailed, expect, expect_refused, feature
from dbops.features.scratch import Answer, Scratch
from dbops.operations.backup import BackupRequest, backup_database
from dbops.operations.restore import RestoreRequest, RestoreResult, restore_database
from dbops.operations.restore_source import LoadOptions
from dbops.operations.undo import UndoRequest, undo_operation
from dbops.operations.verify import VerifyRequest, verify_backup

_DELETE = "DELETE FROM ward.visits WHERE visit_id > 10"


def _back_up(scratch: Scratch) -> str:
    request = BackupRequest(
        scratch.database("test"), "test", scratch.store, pg_bin=scratch.pg_bin, checksums=True
    )
    return backup_database(request, scratch.context()).manifest.name


def _no_safety_copy(rows_of: tuple[str, ...]) -> str:
    raise FeatureFailed("A restore by swap asked for a safety copy.")


def _restore(scratch: Scratch, name: str, operation: str = "") -> RestoreResult:
    request = RestoreRequest(
        scratch.database("test"), "test", scratch.store, save=_no_safety_copy, name=name,
        load=LoadOptions(pg_bin=scratch.pg_bin),
    )  # fmt: skip
    context = scratch.context()
    context.operation_id = operation or context.operation_id
    return restore_database(request, context)


@feature("backup", "a backup restores every row, and undo takes the restore back", "direct")
def restore_brings_every_row(scratch: Scratch) -> None:
    scratch.fill("test")
    before = scratch.rows("test")
    name = _back_up(scratch)
    scratch.sql("test", _DELETE)
    changed = scratch.rows("test")
    operation = scratch.context().operation_id
    _restore(scratch, name, operation)
    expect(scratch.rows("test") == before, "The rows are not those that were backed up.")
    undo_operation(UndoRequest(scratch.database("test"), "test", operation), scratch.context())
    expect(scratch.rows("test") == changed, "Undo did not bring back what the restore replaced.")


@feature("backup", "verify_backup restores a backup aside and finds it equal", "direct")
def backup_is_verified(scratch: Scratch) -> None:
    scratch.fill("test")
    request = VerifyRequest(
        scratch.store, _back_up(scratch), full=True, database=scratch.database("test"),
        environment="test", load=LoadOptions(pg_bin=scratch.pg_bin),
    )  # fmt: skip
    result = verify_backup(request, scratch.context())
    expect(result.verified, "It was not verified.")


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _alter(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@feature("backup", "a cut and an altered backup are refused, the target untouched", "direct")
def damaged_backups_are_refused(scratch: Scratch) -> None:
    scratch.fill("test")
    before = scratch.rows("test")
    for spoil in (_cut, _alter):
        name = _back_up(scratch)
        archive = scratch.home / "backups" / name
        archive.chmod(0o600)
        archive.write_bytes(spoil(archive.read_bytes()))
        expect_refused(BackupInvalidError, partial(_restore, scratch, name))
    expect(scratch.rows("test") == before, "The target was changed.")


def _backed_up(scratch: Scratch, *options: str) -> Answer:
    answer = scratch.run("dbbackup", "-d", "test", *options)
    expect(answer.code == 0, f"dbbackup failed, {answer.told}")
    return answer


@feature("backup", "dbbackup, listbackups, dbrestore and undo_operation work together", "command")
def commands_bring_every_row(scratch: Scratch) -> None:
    scratch.fill("test")
    before = scratch.rows("test")
    name = _backed_up(scratch).result["name"]
    listed = scratch.run("listbackups", "-d", "test").result["backups"]
    expect(listed[0]["name"] == name, "The new backup is not the first of the list.")
    scratch.sql("test", _DELETE)
    changed = scratch.rows("test")
    restored = scratch.run("dbrestore", "-d", "test", "-i", name, "--noinput")
    expect(restored.code == 0, f"dbrestore failed, {restored.told}")
    expect(scratch.rows("test") == before, "The rows are not those that were backed up.")
    undone = scratch.run("undo_operation", "--noinput")
    expect(undone.code == 0, f"undo_operation failed, {undone.told}")
    expect(scratch.rows("test") == changed, "Undo did not bring back what the restore replaced.")


@feature("backup", "one table is restored, the others keep their rows", "command")
def one_table_is_restored(scratch: Scratch) -> None:
    scratch.fill("test")
    before = scratch.rows("test")
    name = _backed_up(scratch).result["name"]
    scratch.sql("test", "DELETE FROM ward.sessions")
    scratch.sql("test", _DELETE)
    visits = scratch.rows("test")["ward.visits_2026"]
    answer = scratch.run(
        "dbrestore", "-d", "test", "-i", name, "--table", "ward.sessions", "--noinput"
    )
    expect(answer.code == 0, f"dbrestore failed, {answer.told}")
    after = scratch.rows("test")
    expect(after["ward.sessions"] == before["ward.sessions"], "Its rows are not there.")
    expect(after["ward.visits_2026"] == visits, "Rows of another table were changed.")


@feature("backup", "a restore that nobody confirms, and one of no backup, are refused", "command")
def unconfirmed_restore_is_refused(scratch: Scratch) -> None:
    scratch.fill("test")
    before = scratch.rows("test")
    name = _backed_up(scratch).result["name"]
    unconfirmed = scratch.run("dbrestore", "-d", "test", "-i", name)
    expect(unconfirmed.error.get("code") == "not_confirmed", f"It was not, {unconfirmed.told}")
    unknown = scratch.run("dbrestore", "-d", "test", "-i", "no-such.dump.zst", "--noinput")
    expect(unknown.error.get("code") == "backup_not_found", f"It was not, {unknown.told}")
    expect(scratch.rows("test") == before, "The target was changed.")
