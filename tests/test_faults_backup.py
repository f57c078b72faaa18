"""Faults 1 to 13: a backup that fails leaves no trace but the record of why, and the next one
succeeds. Those that are not here are in test_faults.py and test_retention.py."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dbops.backups.codec import decompress
from tests.conftest import skip_or_fail
from tests.faults import (
    assert_failed,
    assert_recorded,
    assert_unharmed,
    catalogued,
    checkpoint,
    ended,
    file_size_limit,
    kill,
    make_noise,
    own_server,
    partial_size,
    prepare,
    read_only,
    sequence_held,
    state,
    stop_immediately,
    tools_of,
    unsealed,
    wait_for,
)
from tests.installation import Installation
from tests.servers import DEBIAN_15, Server

BACKUP = ["dbbackup", "-d", "test"]


@pytest.fixture
def prepared(installation18: Installation) -> Installation:
    return prepare(installation18)


def test_a_limit_on_the_size_of_files(prepared: Installation) -> None:
    """Fault 2: ``ulimit -f`` ends the file in the middle of the dump."""
    make_noise(prepared, 8)
    before, names = state(prepared), catalogued(prepared)
    error = prepared.refused(*BACKUP, **file_size_limit(4))
    assert error["code"] == "storage"
    assert_failed(prepared, before, "File too large")
    assert catalogued(prepared) == names
    prepared.result(*BACKUP)


@pytest.mark.parametrize("what", ["archive", "its name", "its manifest's name"])
def test_the_disk_fails_at_fsync(prepared: Installation, what: str) -> None:
    """Fault 3: fsync answers EIO, for the file or for the directory it got its name in. What is not
    known to be on the disk is no backup."""
    if shutil.which("strace") is None:
        skip_or_fail("strace is not installed")
    prepared.sql("test", "CREATE SEQUENCE public.gate")
    before, names = state(prepared), catalogued(prepared)
    with sequence_held(prepared, "public.gate"):  # pg_dump waits for it, having begun
        process = prepared.start(*BACKUP)
        (partial,) = _partial_file(prepared)
        path = partial if what == "archive" else partial.parent
        inject = "fsync:error=EIO" + (":when=2" if "manifest" in what else "")
        tracer = subprocess.Popen(
            ["strace", "-f", "-p", str(process.pid), "-P", path, "-e", "trace=fsync",
             "-e", f"inject={inject}"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert tracer.stderr is not None
        said = tracer.stderr.readline()
        if "attached" not in said:
            process.kill()
            skip_or_fail(f"tracing is not allowed here: {said}")
    code, err = ended(process)
    tracer.communicate()
    assert (code, "Input/output error" in err) == (1, True), err
    assert_failed(prepared, before, "Input/output error")
    assert catalogued(prepared) == names
    prepared.result(*BACKUP)


def _partial_file(installation: Installation) -> list[Path]:
    found: list[Path] = []

    def look() -> bool:
        found[:] = (installation.home / "backups").glob(".*.partial")
        return found != []

    wait_for(look)
    return found


def test_pg_dump_is_killed(prepared: Installation) -> None:
    """Fault 4: after 10, 50 and 90 per cent of what it has to say."""
    make_noise(prepared, 32)
    archive = prepared.home / "backups" / prepared.result(*BACKUP)["name"]
    whole = sum(map(len, decompress([archive.read_bytes()])))
    before = state(prepared)
    for percent in (10, 50, 90):
        for _ in range(5):  # it may have ended before it was hit
            names = catalogued(prepared)
            process = prepared.start(*BACKUP)
            with suppress(OSError):
                _kill_pg_dump_after(process, whole * percent // 100)
            code, err = ended(process)
            if code:
                break
        assert (code, "pg_dump failed (killed by signal 9)" in err) == (1, True), (percent, err)
        assert_failed(prepared, before, "killed by signal 9")
        assert catalogued(prepared) == names
    prepared.result(*BACKUP)


def _kill_pg_dump_after(command: subprocess.Popen[str], size: int) -> None:
    """``size``: bytes it has written. It is stopped while we look, not to run away meanwhile."""
    found: list[int] = []
    while not found and command.poll() is None:
        found = tools_of(command.pid, "pg_dump")
    while found:
        os.kill(found[0], signal.SIGSTOP)
        counters = Path(f"/proc/{found[0]}/io").read_text()
        if int(re.findall(r"wchar: (\d+)", counters)[0]) >= size:
            os.kill(found[0], signal.SIGKILL)
            return
        os.kill(found[0], signal.SIGCONT)
        time.sleep(0.001)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Installation]:
    """On a server of its own."""
    with own_server() as server, Installation.create(server, tmp_path) as made:
        yield prepare(made)


def test_the_server_is_stopped_in_mid_dump(own: Installation) -> None:
    """Fault 5: ``pg_ctl stop -m immediate``; once it is up again the next run succeeds."""
    make_noise(own, 32)
    whole = own.result(*BACKUP)
    checkpoint(own.server)
    before, names = state(own), catalogued(own)
    process = own.start(*BACKUP)
    wait_for(lambda: partial_size(own) > whole["size"] // 10, pause=0.001)
    stop_immediately(own.server)
    code, _ = ended(process)
    assert code == 1
    assert unsealed(own) == []
    error = own.refused(*BACKUP)
    assert error["code"] == "connection_failed"
    own.server.embedded.start()
    assert_failed(own, before, "Cannot connect")
    own.result(*BACKUP)
    assert len(catalogued(own)) == len(names) + 1


def test_kill_9_in_mid_dump(prepared: Installation) -> None:
    """Fault 7: the next run succeeds at once, a sweep clears up, the row says interrupted."""
    make_noise(prepared, 32)
    before, names = state(prepared), catalogued(prepared)
    process = prepared.start(*BACKUP)
    wait_for(lambda: partial_size(prepared) > 4_000_000, pause=0.001)
    kill(process, prepared)
    (left,) = unsealed(prepared)
    name = prepared.result(*BACKUP)["name"]
    swept = prepared.result("operations", "sweep")
    assert (len(swept["interrupted"]), swept["files"]) == (1, [left])
    assert_unharmed(prepared, before)
    assert catalogued(prepared) == sorted([*names, name])
    shown = prepared.result("operations", "show", swept["interrupted"][0])
    assert shown["operation"]["status"] == "interrupted"
    assert "died" in shown["error"]


def test_a_storage_that_is_read_only(prepared: Installation) -> None:
    """Fault 8: it cannot be written, and restores from it go on."""
    before, names = state(prepared), catalogued(prepared)
    with read_only(prepared.home / "backups"):
        assert prepared.refused(*BACKUP)["code"] == "storage"
        assert_failed(prepared, before, "cannot be written")
        assert catalogued(prepared) == names
        prepared.result("dbrestore", "-d", "test", "-i", names[0], "--noinput")
    prepared.result(*BACKUP)


@pytest.mark.parametrize("fault", ["missing", "link to nothing", "link to itself"])
def test_a_storage_that_is_not_there(prepared: Installation, fault: str, tmp_path: Path) -> None:
    """Fault 8: the place is gone, and cannot be made; or a link that leads nowhere stands there."""
    before, names = state(prepared), catalogued(prepared)
    storage, aside = prepared.home / "backups", prepared.home / "aside"
    nothing = tmp_path / "unmounted" / "backups"
    storage.rename(aside)
    if fault == "missing":
        prepared.variables["BACKUP_STORAGE_URL"] = "file:///proc/unmounted/backups"
    else:
        storage.symlink_to(nothing if fault == "link to nothing" else storage)
    errors = [prepared.refused(*BACKUP)]
    assert_recorded(prepared, "cannot be written")
    restore = ["dbrestore", "-d", "test", "-i", names[0], "--noinput"]
    errors.append(prepared.refused(*restore))
    assert errors[0]["code"] == "storage"
    assert errors[1]["code"] in ("storage", "backup_not_found")
    assert not nothing.parent.exists()
    assert_failed(prepared, before, errors[1]["message"])
    if fault == "missing":
        del prepared.variables["BACKUP_STORAGE_URL"]
    else:
        storage.unlink()
    aside.rename(storage)
    prepared.result(*BACKUP)
    prepared.result(*restore)


def test_links_in_the_storage_lead_nowhere(prepared: Installation, tmp_path: Path) -> None:
    """Fault 8: nothing is written through a link that bears a backup's name, and an archive behind
    a link that was put in its place has to be the very same."""
    before, storage = state(prepared), prepared.home / "backups"
    outside = tmp_path / "outside"
    for planted in ("mine.dump.zst", "yours.dump.zst.metadata"):
        (storage / planted).symlink_to(outside)
        name = planted.removesuffix(".metadata")
        error = prepared.refused(*BACKUP, "-o", name)
        assert error["message"] == f"A backup named {name} exists already."
        assert not outside.exists()
        (storage / planted).unlink()
        assert_failed(prepared, before, "exists already")
    archive = storage / prepared.variables["BACKUP"]
    archive.rename(outside)
    archive.symlink_to(prepared.home / "secret_key")
    error = prepared.refused("dbrestore", "-d", "test", "-i", archive.name, "--noinput")
    assert_failed(prepared, before, error["message"])
    assert error["code"] == "backup_invalid"
    archive.unlink()
    outside.rename(archive)
    prepared.result("dbrestore", "-d", "test", "-i", archive.name, "--noinput")


def test_two_backups_in_one_second(prepared: Installation) -> None:
    """Fault 11: two names, and both are proven."""
    for _ in range(5):
        pair = [prepared.start(*BACKUP, "--json") for _ in range(2)]
        assert [ended(process)[0] for process in pair] == [0, 0]
        names = [it["name"] for it in prepared.result("listbackups")["backups"]][:2]
        stamps = {name.rsplit("-", 1)[0] for name in names}
        if len(stamps) == 1:
            break
    assert len(set(names)) == 2
    assert len(stamps) == 1, "they never fell into one second"
    for name in names:
        assert prepared.result("verify_backup", name, "--full")["verified"] is True


def test_tools_older_than_the_server(prepared: Installation, server18: Server) -> None:
    """Fault 13: pg_dump of an older version is refused before it runs, both versions named."""
    if not DEBIAN_15.is_dir():
        skip_or_fail("PostgreSQL 15 is not installed")
    before, names = state(prepared), catalogued(prepared)
    prepared.variables["SKINSPIRE_PG_BIN"] = str(DEBIAN_15)
    restore = ["dbrestore", "-d", "test", "-i", names[0], "--noinput"]
    for command in (BACKUP, restore):
        error = prepared.refused(*command)
        assert error["code"] == "version_mismatch"
        assert "server is PostgreSQL 18" in error["message"]
        assert "version 15" in error["message"]
        assert_failed(prepared, before, "version 15")
    assert catalogued(prepared) == names
    del prepared.variables["SKINSPIRE_PG_BIN"]
    prepared.result(*BACKUP)
