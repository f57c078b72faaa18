"""Faults that must do no harm: the target unchanged, nothing left behind, the journal says why."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from dbops.backups.codec import decompress
from dbops.postgres.connection import fetch_all, fetch_value, session
from tests.faults import (
    MEGABYTE,
    assert_failed,
    assert_unharmed,
    file_size_limit,
    kill,
    locked,
    make_loading_slow,
    make_noise,
    mounted,
    prepare,
    sequence_held,
    state,
    tools_of,
    unmounting,
    wait_for,
)
from tests.installation import Installation


@pytest.fixture
def prepared(installation: Installation) -> Installation:
    """test holds two tables; its one backup is ``prepared.variables['BACKUP']``."""
    return prepare(installation)


@pytest.fixture
def prepared18(installation18: Installation) -> Installation:
    """The same on one server, for what is slow and does not depend on the version."""
    return prepare(installation18)


def _truncate(data: bytearray) -> bytearray:
    return data[: len(data) * 6 // 10]


def _flip(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 0x10
    return data


@pytest.mark.parametrize("damage", [_truncate, _flip], ids=["truncated", "bit flipped"])
def test_a_damaged_backup_is_refused(
    prepared: Installation, damage: Callable[[bytearray], bytearray]
) -> None:
    """Faults 14 and 15: by name, on every server."""
    file = prepared.home / "backups" / prepared.variables["BACKUP"]
    file.write_bytes(damage(bytearray(file.read_bytes())))
    before = state(prepared)
    error = prepared.refused("dbrestore", "-d", "test", "-i", file.name, "--noinput")
    assert error["code"] == "backup_invalid"
    assert_failed(prepared, before, error["message"])


def test_truncated_at_every_five_per_cent(prepared18: Installation, tmp_path: Path) -> None:
    """Fault 14: given by path, with no manifest to tell. Still nothing half-restored takes the
    target's place."""
    prepared = prepared18
    whole = (prepared.home / "backups" / prepared.variables["BACKUP"]).read_bytes()
    before = state(prepared)
    for percent in range(0, 100, 5):
        cut = tmp_path / f"cut-{percent}.dump.zst"
        cut.write_bytes(whole[: len(whole) * percent // 100])
        prepared.refused("dbrestore", "-d", "test", "-I", str(cut), "--noinput")
    assert_unharmed(prepared, before)


def test_archives_cut_inside_their_contents_do_not_hang(
    installation18: Installation, shared_data: Path, tmp_path: Path
) -> None:
    """Fault 14: a cut where not even the table of contents is whole."""
    whole = gzip.compress((shared_data / "pagila/pagila.dump").read_bytes())
    for size in (1, 10, 100, 1000, 2000, 4000):
        cut = tmp_path / f"{size}.gz"
        cut.write_bytes(whole[:size])
        assert installation18.refused("dbrestore", "-d", "test", "-I", str(cut), "--noinput")
    assert installation18.scratch() == []


def test_writes_during_the_dump_still_add_up(prepared18: Installation) -> None:
    """Fault 9: money moves between accounts while the backup runs. The rows counted are the rows
    dumped, and no transfer is half in it."""
    prepared18.sql(
        "test",
        """CREATE TABLE public.accounts AS SELECT g AS id, 100 AS balance
             FROM generate_series(1, 20000) g;
           CREATE TABLE public.transfers (amount int)""",
    )
    done = threading.Event()

    def transfer() -> None:
        number = 0
        with session(prepared18.databases["test"]) as connection, connection.cursor() as cursor:
            while not done.is_set():
                number += 1
                cursor.execute(
                    """BEGIN;
                       UPDATE public.accounts SET balance = balance - 1 WHERE id = %s;
                       UPDATE public.accounts SET balance = balance + 1 WHERE id = %s;
                       INSERT INTO public.transfers VALUES (1); COMMIT""",
                    [number % 20000 + 1, (number * 7) % 20000 + 1],
                )

    writer = threading.Thread(target=transfer)
    writer.start()
    try:
        backup = prepared18.result("dbbackup", "-d", "test")
    finally:
        done.set()
        writer.join()
    after = prepared18.sql("test", "SELECT count(*) FROM public.transfers")
    result = prepared18.result("dbrestore", "-d", "test", "-i", backup["name"], "--noinput")
    assert result["rows"] == backup["rows"]
    assert prepared18.sql("test", "SELECT sum(balance) FROM public.accounts") == 2_000_000
    assert 0 < prepared18.sql("test", "SELECT count(*) FROM public.transfers") < after


@pytest.mark.parametrize("change", ["removed", "edited", "rehashed"])
def test_a_forged_manifest_is_refused(prepared: Installation, change: str) -> None:
    """Fault 16: the manifest is missing, was edited, or fits an archive that was exchanged."""
    file = prepared.home / "backups" / prepared.variables["BACKUP"]
    manifest = file.with_name(file.name + ".metadata")
    whole = [(it, it.read_bytes()) for it in (file, manifest)]
    if change == "removed":
        manifest.unlink()
    else:
        content = json.loads(manifest.read_text())
        if change == "edited":
            content["environment"] = "prod"
        else:
            import hashlib

            file.write_bytes(file.read_bytes()[::-1])
            content["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(content))
    before = state(prepared)
    error = prepared.refused("dbrestore", "-d", "test", "-i", file.name, "--noinput")
    assert error["code"] in ("backup_invalid", "backup_not_found")
    for path, content in whole:
        path.write_bytes(content)
    assert_failed(prepared, before, error["message"])
    prepared.result("dbrestore", "-d", "test", "-i", file.name, "--noinput")


def test_kill_9_while_loading_leaves_the_target_and_a_sweep_clears_up(
    prepared: Installation,
) -> None:
    """Fault 20: on every server, while indexes are built."""
    make_loading_slow(prepared)
    before = state(prepared)
    process = prepared.start("dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"],
                             "--noinput")  # fmt: skip
    wait_for(lambda: any("incoming" in name for name in prepared.scratch()))
    time.sleep(0.5)
    kill(process, prepared)
    assert state(prepared) == before
    swept = prepared.result("operations", "sweep")
    assert len(swept["interrupted"]) == 1
    assert_failed(prepared, before, "process died", "interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["dbbackup", "dbrestore"])
def test_signals_end_everything_and_say_cancelled(
    prepared: Installation, number: signal.Signals, kind: str
) -> None:
    """Fault 6: Ctrl-C, TERM and HUP. The tool is reaped, nothing is left."""
    if kind == "dbrestore":
        make_loading_slow(prepared)
    prepared.sql("test", "CREATE SEQUENCE public.gate")
    before = state(prepared)
    backups = prepared.result("listbackups")["backups"]
    command = ["dbbackup", "-d", "test"]
    if kind == "dbrestore":
        command = ["dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"], "--noinput"]
    with sequence_held(prepared, "public.gate") if kind == "dbbackup" else nullcontext():
        process = prepared.start(*command)
        tool = "pg_dump" if kind == "dbbackup" else "pg_restore"
        wait_for(lambda: tools_of(process.pid, tool) != [])
        time.sleep(0.3)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 143), err
    assert "Traceback" not in err
    assert tools_of(process.pid) == []
    assert_unharmed(prepared, before)
    assert prepared.result("operations")["operations"][0]["status"] == "cancelled"
    assert prepared.result("listbackups")["backups"] == backups


def test_a_locked_table_is_named_after_ten_seconds(prepared18: Installation) -> None:
    """Fault 10: somebody holds a table exclusively; the next run succeeds once he has let go."""
    prepared = prepared18
    before = state(prepared)
    with locked(prepared):
        error = prepared.refused("dbbackup", "-d", "test")
    assert "notes" in error["message"]
    assert_failed(prepared, before, "notes")
    prepared.result("dbbackup", "-d", "test")


def test_operations_cancel_stops_a_running_restore(prepared: Installation) -> None:
    make_loading_slow(prepared)
    before = state(prepared)
    process = prepared.start("dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"],
                             "--noinput")  # fmt: skip
    wait_for(lambda: tools_of(process.pid, "pg_restore") != [])
    running = prepared.result("operations")["operations"][0]
    answer = prepared.run("operations", "cancel", running["id"], "--json").json
    assert answer["operation"]["status"] == "cancelled"
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert_unharmed(prepared, before)


def test_the_server_stopped_in_mid_restore(prepared: Installation) -> None:
    """The connections die as with a postmaster killed (fault 21, on every server)."""
    make_loading_slow(prepared)
    before = state(prepared)
    process = prepared.start("dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"],
                             "--noinput")  # fmt: skip
    prefix = prepared.databases["test"].database + "__incoming"
    with session(prepared.server.superuser) as control:
        wait_for(
            lambda: bool(
                fetch_value(
                    control,
                    """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                        WHERE starts_with(datname, %s) AND application_name = 'pg_restore'
                          AND query LIKE 'CREATE INDEX slow%%'""",
                    [prefix],
                )
            )
        )
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert_unharmed(prepared, before)


def test_urls_swapped_by_mistake_are_refused_by_the_stamp(prepared: Installation) -> None:
    prepared.result("init_db", "--env", "prod", "--confirm", "prod")
    prepared.databases["test"], prepared.databases["prod"] = (
        prepared.databases["prod"], prepared.databases["test"],
    )  # fmt: skip
    before = prepared.hashes("test")
    for command in (
        ["dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"], "--noinput"],
        ["copy_db", "test", "dev", "--noinput"],
        ["apply_triggers", "--env", "test"],
        ["init_db", "--env", "test", "--adopt"],
        ["dbbackup", "-d", "test"],
    ):
        assert prepared.refused(*command)["code"] == "stamp_mismatch", command
    assert prepared.hashes("test") == before


def test_one_database_under_two_names_is_refused_by_identity(prepared: Installation) -> None:
    url = prepared.server.url(prepared.databases["test"].database)
    prepared.variables["DEV_DATABASE_URL"] = url.replace("127.0.0.1", "localhost")
    error = prepared.refused("copy_db", "test", "dev", "--noinput")
    assert error["code"] == "same_database"


def test_protected_environments_ask_for_their_name(prepared: Installation) -> None:
    prepared.result("init_db", "--env", "prod", "--confirm", "prod")
    name = prepared.variables["BACKUP"]
    for command in (
        ["dbrestore", "-d", "prod", "-i", name, "--noinput"],
        ["apply_triggers", "--env", "prod", "--noinput"],
        ["init_db", "--env", "prod", "--noinput"],
    ):
        assert prepared.refused(*command)["code"] == "not_confirmed", command
        assert prepared.refused(*command, "--confirm", "test")["code"] == "not_confirmed"
    error = prepared.refused("copy_db", "test", "prod", "--noinput", "--confirm", "prod")
    assert error["code"] == "refused"
    prepared.result("dbrestore", "-d", "prod", "-i", name, "--noinput", "--confirm", "prod")
    unruled = prepared.refused("copy_db", "prod", "dev", "--noinput")
    assert unruled["code"] == "masking"
    assert "has no rule" in unruled["message"]
    assert prepared.hashes("prod") == prepared.hashes("test")
    patients = prepared.result("dbbackup", "-d", "prod")["name"]
    restore = ["dbrestore", "-d", "test", "-i", patients, "--noinput"]
    assert "unmasked" in prepared.refused(*restore)["message"]
    prepared.result(*restore, "--no-mask")


def test_tables_without_a_stamp_are_taken_in_only_when_asked(installation18: Installation) -> None:
    installation18.sql("dev", "CREATE TABLE public.mine AS SELECT 1 AS id")
    assert installation18.refused("init_db", "--env", "dev")["code"] == "stamp_mismatch"
    assert installation18.refused("apply_triggers", "--env", "dev")["code"] == "stamp_mismatch"
    assert installation18.result("init_db", "--env", "dev", "--adopt")["adopted"] is True
    installation18.result("apply_triggers", "--env", "dev")


def test_the_second_of_two_hears_who_holds_the_target(prepared: Installation) -> None:
    make_loading_slow(prepared)
    command = ["dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"], "--noinput"]
    first = prepared.start(*command)
    wait_for(lambda: tools_of(first.pid, "pg_restore") != [])
    error = prepared.refused(*command)
    backup = prepared.refused("dbbackup", "-d", "test")
    os.kill(first.pid, signal.SIGTERM)
    first.communicate()
    for refused in (error, backup):
        assert refused["code"] == "locked"
        assert "restore test" in refused["message"]
        assert "since" in refused["message"]


def _told_of_tools(pid: int) -> Iterator[bytes]:
    """Arguments and environment of each that lives; one may end while it is asked."""
    for tool in tools_of(pid, "pg_restore"):
        with suppress(OSError):
            yield Path(f"/proc/{tool}/cmdline").read_bytes()
            yield Path(f"/proc/{tool}/environ").read_bytes()


def test_no_secret_shows_anywhere(prepared: Installation) -> None:
    """Fault 68: the password is in no argument, no process environment of a tool, no file of ours
    (journal, manifests, logs). Error pages, the API and the console have tests of their own."""
    make_loading_slow(prepared)
    password = prepared.server.params.password
    process = prepared.start("dbrestore", "-d", "test", "-i", prepared.variables["BACKUP"],
                             "--noinput")  # fmt: skip
    seen: list[bytes] = []
    wait_for(lambda: seen.extend(_told_of_tools(process.pid)) or b"pg_restore" in b"".join(seen))
    assert password.encode() not in b"".join(seen)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate()
    assert password not in out + err
    for file in prepared.home.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes(), file


def test_a_wrong_password_and_a_dead_server_are_one_sentence(installation18: Installation) -> None:
    installation18.variables["DEV_DATABASE_URL"] = "postgresql://a:canary@127.0.0.1:1/x"
    answer = installation18.run("dbbackup", "-d", "dev", code=1)
    assert "Cannot connect" in answer.err
    assert "canary" not in answer.out + answer.err


def test_a_file_in_place_of_the_storage_is_named(installation18: Installation) -> None:
    """Fault 8: there is a file where the directory should be."""
    installation18.result("init_db", "--env", "dev")
    blocked = installation18.home / "backups"
    blocked.write_text("a file where the directory should be")
    error = installation18.refused("dbbackup", "-d", "dev")
    assert error["code"] == "storage"


def test_disk_full_fails_the_backup_and_leaves_nothing(prepared18: Installation) -> None:
    """Fault 1: the disk is full in the middle of a dump that is larger than the last one; and where
    the last one already took more room than there is, that is said at once."""
    prepared = prepared18
    make_noise(prepared, 8)
    before = state(prepared)
    storage = prepared.home / "backups"
    size = sum(file.stat().st_size for file in storage.iterdir())
    kept = {file: file.read_bytes() for file in storage.iterdir()}
    if mounted(storage, "-t", "tmpfs", "-o", f"size={size + 4 * MEGABYTE}", "none"):
        with unmounting(storage):
            for file, content in kept.items():
                file.write_bytes(content)
            error = prepared.refused("dbbackup", "-d", "test")
            assert_failed(prepared, before, "No space left")
            assert {it: it.read_bytes() for it in storage.iterdir()} == kept
    else:  # the same write fails, for another reason
        error = prepared.refused("dbbackup", "-d", "test", **file_size_limit(4))
        assert_failed(prepared, before, "File too large")
    assert error["code"] == "storage"
    prepared.result("dbbackup", "-d", "test")
    if mounted(storage, "-t", "tmpfs", "-o", f"size={4 * MEGABYTE}", "none"):
        with unmounting(storage):
            error = prepared.refused("dbbackup", "-d", "test")
            assert error["code"] == "no_space"
            assert "has 4 MiB free" in error["message"]
            assert_failed(prepared, before, "The last backup of test took")


def test_newer_archives_are_refused_with_both_versions(
    installation15: Installation, installation18: Installation
) -> None:
    """Fault 17: given by path. And tools newer than the server, as fault 13 the other way round."""
    installation = installation15
    installation18.result("init_db", "--env", "dev")
    name = installation18.result("dbbackup", "-d", "dev")["name"]
    error = installation.refused(
        "dbrestore", "-d", "dev", "-I", str(installation18.home / "backups" / name), "--noinput"
    )
    assert error["code"] == "version_mismatch"
    installation.variables["SKINSPIRE_PG_BIN"] = str(_bin(18))
    installation.result("init_db", "--env", "test")
    mismatch = installation.refused("dbbackup", "-d", "test")
    assert "15" in mismatch["message"]
    assert "18" in mismatch["message"]


def _bin(major: int) -> Path:
    from tests.servers import binaries

    found = binaries(major)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER DATABASE {dev} RENAME TO stolen",
        "ALTER DATABASE {dev} SET default_transaction_read_only = on",
        "ALTER ROLE CURRENT_USER SET statement_timeout = 12345",
        "GRANT ALL ON DATABASE {dev} TO PUBLIC",
    ],
)
def test_a_foreign_dump_cannot_reach_beyond_its_database(
    installation: Installation, tmp_path: Path, statement: str
) -> None:
    """Fault 25: hidden in a block that no reader of SQL can look into."""
    installation.result("init_db", "--env", "dev")
    before = installation.hashes("dev")
    dump = tmp_path / "hostile.sql"
    hidden = statement.format(dev=installation.databases["dev"].database).replace("'", "''")
    dump.write_text(f"CREATE TABLE public.t (i int);\nDO $$ BEGIN EXECUTE '{hidden}'; END $$;\n")
    error = installation.refused("dbrestore", "-d", "test", "-I", str(dump), "--noinput")
    assert "other databases of the server" in error["message"]
    assert installation.hashes("dev") == before


def test_a_hostile_archive_is_read_before_it_is_run(
    installation: Installation, tmp_path: Path
) -> None:
    """Fault 25: an archive's statements are text. Here one drops another database."""
    victim = installation.server.create_database()
    command = f"DROP DATABASE {victim.database} WITH (FORCE);"
    installation.result("init_db", "--env", "dev")
    comment = "x" * 60
    installation.sql("dev", f"CREATE VIEW public.v AS SELECT '{comment}'::text AS x")
    name = installation.result("dbbackup", "-d", "dev")["name"]
    plain = b"".join(decompress([(installation.home / "backups" / name).read_bytes()]))
    start = plain.index(b"CREATE VIEW public.v AS")
    end = plain.index(b";", start) + 1
    hostile = f"COMMIT; {command}".encode().ljust(end - start)
    assert len(hostile) == end - start
    archive = tmp_path / "hostile.dump"
    archive.write_bytes(plain[:start] + hostile + plain[end:])
    error = installation.refused("dbrestore", "-d", "test", "-I", str(archive), "--noinput")
    assert error["code"] == "foreign_dump"
    assert "DROP DATABASE" in error["message"]
    with session(victim):
        pass
    installation.server.drop_database(victim.database)


def test_a_foreign_dump_cannot_bring_a_stamp_of_its_own(
    installation18: Installation, tmp_path: Path
) -> None:
    dump = tmp_path / "stamped.sql"
    dump.write_text(
        """CREATE SCHEMA skinspire;
        CREATE TABLE skinspire.stamp (only_row boolean PRIMARY KEY, environment text,
                                      stamped_at timestamptz);
        CREATE FUNCTION skinspire.lie() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.environment := 'prod'; RETURN NEW; END $$;
        CREATE TRIGGER lie BEFORE INSERT ON skinspire.stamp
            FOR EACH ROW EXECUTE FUNCTION skinspire.lie();
        """
    )
    installation18.result("dbrestore", "-d", "dev", "-I", str(dump), "--noinput")
    assert installation18.sql("dev", "SELECT environment FROM skinspire.stamp") == "dev"
    installation18.result("undo_operation", "--noinput")


def test_killed_right_after_the_swap_it_can_still_be_undone(prepared18: Installation) -> None:
    before = prepared18.hashes("test")
    prepared18.sql("test", "CREATE TABLE public.later AS SELECT 1 AS id")
    changed = prepared18.hashes("test")
    process = prepared18.start("dbrestore", "-d", "test", "-i", prepared18.variables["BACKUP"],
                               "--noinput")  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "replaced in" in line:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    assert prepared18.hashes("test") == before
    prepared18.result("operations", "sweep")
    last = prepared18.result("operations")["operations"][0]
    assert last["status"] in ("interrupted", "succeeded")
    prepared18.result("undo_operation", "--noinput")
    assert prepared18.hashes("test") == changed


def test_names_that_begin_alike_do_not_share_what_is_kept(installation18: Installation) -> None:
    server = installation18.server
    stem = f"clinic_{os.urandom(3).hex()}_" + "c" * 40
    for name in ("dev", "test"):
        installation18.databases[name] = server.create_database(f"{stem}_{name}")
        installation18.result("init_db", "--env", name)
        installation18.sql(name, f"CREATE TABLE public.it AS SELECT '{name}' AS word")
    try:
        backups = {
            name: installation18.result("dbbackup", "-d", name)["name"] for name in ("dev", "test")
        }
        first = installation18.run("dbrestore", "-d", "test", "-i", backups["test"], "--noinput",
                                   "--json").json["operation"]["id"]  # fmt: skip
        installation18.result("dbrestore", "-d", "dev", "-i", backups["dev"], "--noinput")
        installation18.result("undo_operation", first, "--noinput")
    finally:
        with session(server.superuser) as control:
            rows = fetch_all(
                control,
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)",
                [stem[:20]],
            )
        for (name,) in rows:
            server.drop_database(name)
