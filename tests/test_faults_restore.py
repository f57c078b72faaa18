"""Faults 14 to 26: a restore that fails leaves the target as it was, and one that is killed leaves
the old database or the new one, never neither. Those that are not here are in test_faults.py and
test_restore.py."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbops.postgres.connection import execute, fetch_all, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.tools import find_tool
from tests.conftest import skip_or_fail
from tests.faults import (
    MEGABYTE,
    assert_failed,
    assert_nothing_left,
    assert_recorded,
    checkpoint,
    ended,
    kill,
    kill_postmaster,
    make_noise,
    own_server,
    prepare,
    read_only,
    small_disk,
    state,
    wait_for_step,
)
from tests.installation import Installation

RESTORE = ["dbrestore", "-d", "test", "--noinput"]


@pytest.fixture
def prepared(installation18: Installation) -> Installation:
    return prepare(installation18)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Installation]:
    """On a server of its own."""
    with own_server() as server, Installation.create(server, tmp_path) as made:
        yield prepare(made)


def _restore(installation: Installation, *options: str) -> list[str]:
    return [*RESTORE, "-i", installation.variables["BACKUP"], *options]


def _url(params: ConnectionParams) -> str:
    return (
        f"postgresql://{params.user}:{params.password}@{params.host}:{params.port}"
        f"/{params.database}"
    )


def _dump(params: ConnectionParams, major: int, file: Path, *options: str) -> bytes:
    """A dump made elsewhere: by pg_dump of that version."""
    environment = {**params.libpq_environment(), "PGPASSWORD": params.password}
    command = [find_tool("pg_dump", major), *options, "--file", file]
    subprocess.run(command, env=environment, check=True)
    return file.read_bytes()


def test_truncated_at_every_five_per_cent(prepared: Installation) -> None:
    """Fault 14: by name, with its manifest, one after the other in one process. Nothing is even
    created to load it into."""
    file = prepared.home / "backups" / prepared.variables["BACKUP"]
    whole, before = file.read_bytes(), state(prepared)
    answer = prepared.run("shell", "--verbosity=0", "--command", _CUTTING.format(str(file)))
    assert answer.out.count("it is truncated") == 20, answer
    assert "create" not in answer.err.split()
    assert_failed(prepared, before, "truncated")
    assert prepared.refused(*_restore(prepared))["code"] == "backup_invalid"
    file.write_bytes(whole)
    prepared.result(*_restore(prepared))


_CUTTING = """
from pathlib import Path
from django.core.management import CommandError, call_command
file = Path({0!r})
whole = file.read_bytes()
for percent in range(0, 100, 5):
    file.write_bytes(whole[: len(whole) * percent // 100])
    try:
        call_command("dbrestore", database="test", input_filename=file.name, interactive=False)
    except CommandError as error:
        print(error)
"""


def test_one_bit_flipped(prepared: Installation, tmp_path: Path) -> None:
    """Fault 15: anywhere in a backup of ours, by name as well as by path, and in a dump made
    elsewhere that was compressed."""
    file = prepared.home / "backups" / prepared.variables["BACKUP"]
    whole, before = file.read_bytes(), state(prepared)
    source = prepared.databases["test"]
    forms = {
        tmp_path / "by-path.dump.zst": whole,
        tmp_path / "by-path.sql.gz": gzip.compress(_dump(source, 18, tmp_path / "plain")),
    }
    for part in (0, 0.3, 0.7, 1):
        place = int(part * (len(whole) - 1))
        file.write_bytes(_flipped(whole, place))
        assert prepared.refused(*_restore(prepared))["code"] == "backup_invalid"
        for path, content in forms.items():
            # The first bytes say that it is compressed; what has lost them is no dump at all.
            path.write_bytes(_flipped(content, int(part * (len(content) - 1))))
            assert prepared.refused(*RESTORE, "-I", str(path)), (path, part)
    file.write_bytes(whole)
    assert_failed(prepared, before, "")
    for path, content in forms.items():
        path.write_bytes(content)
        assert prepared.result(*RESTORE, "-I", str(path))["rows"] > 60000


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


def test_one_bit_flipped_in_a_plain_dump(prepared: Installation, tmp_path: Path) -> None:
    """Fault 15: plain SQL carries no checksum. A flip that makes it malformed is refused; one in a
    value cannot be known by anybody, and everything else arrives."""
    before, path = state(prepared), tmp_path / "flipped.sql"
    whole = _dump(prepared.databases["test"], 18, tmp_path / "plain", "--table=patients")
    for place in (
        whole.index(b"CREATE TABLE"),
        whole.index(b"COPY public"),
        whole.index(b"FROM stdin"),
        whole.index(b"\\.\n"),
        whole.index(b"PostgreSQL database dump complete"),
    ):
        path.write_bytes(_flipped(whole, place))
        prepared.refused(*RESTORE, "-I", str(path))
    assert_failed(prepared, before, "")
    value = whole.index(b"FROM stdin;\n1\t") + len(b"FROM stdin;\n1\t")
    path.write_bytes(_flipped(whole, value))
    assert prepared.result(*RESTORE, "-I", str(path))["rows"] == 60000


def test_an_archive_of_a_newer_server(prepared: Installation, installation15: Installation) -> None:
    """Fault 17: by name, both versions named."""
    installation15.result("init_db", "--env", "test")
    before = state(installation15)
    prepared.variables["TEST_DATABASE_URL"] = _url(installation15.databases["test"])
    error = prepared.refused(*_restore(prepared))
    assert error["code"] == "version_mismatch"
    assert "comes from PostgreSQL 18" in error["message"]
    assert "server is PostgreSQL 15" in error["message"]
    assert_recorded(prepared, "comes from PostgreSQL 18")
    assert state(installation15) == before
    assert installation15.scratch() == []
    del prepared.variables["TEST_DATABASE_URL"]
    prepared.result(*_restore(prepared))


def _from_15(installation15: Installation, installation18: Installation) -> list[str]:
    """Back up test of the server 15, and restore it into test of the server 18 from now on."""
    name = installation15.result("dbbackup", "-d", "test")["name"]
    installation15.variables["TEST_DATABASE_URL"] = _url(installation18.databases["test"])
    installation18.result("init_db", "--env", "test")
    return [*RESTORE, "-i", name]


def test_an_extension_the_server_lacks(
    installation15: Installation, installation18: Installation
) -> None:
    """Fault 18: named before anything is built."""
    if not Path("/usr/share/postgresql/15/extension/citext.control").exists():
        skip_or_fail("PostgreSQL 15 is here without its extensions")
    installation15.result("init_db", "--env", "test")
    installation15.sql("test", "CREATE EXTENSION citext SCHEMA public")
    restore = _from_15(installation15, installation18)
    before = state(installation18)
    answer = installation15.run(*restore, "--json", code=1)
    assert "lacks extension citext" in answer.json["error"]["message"]
    assert "create" not in answer.err.split()
    assert_recorded(installation15, "lacks extension citext")
    assert state(installation18) == before
    assert installation18.scratch() == []


def test_a_tablespace_and_a_role_the_server_lacks(prepared: Installation) -> None:
    """Fault 18: the role is named before anything is built, the tablespace by what fails then."""
    name = prepared.databases["test"].database
    superuser = prepared.server.superuser
    with session(superuser) as control:
        execute(control, "SET allow_in_place_tablespaces = on")
        execute(control, f"CREATE TABLESPACE space_{name} OWNER {superuser.user} LOCATION ''")
        try:
            execute(control, f"GRANT CREATE ON TABLESPACE space_{name} TO PUBLIC")
            execute(control, f"CREATE ROLE role_{name}")
            prepared.sql("test", f"CREATE TABLE public.far (id int) TABLESPACE space_{name}")
            prepared.sql("test", f"GRANT SELECT ON public.far TO role_{name}")
            prepared.variables["BACKUP"] = prepared.result("dbbackup", "-d", "test")["name"]
            prepared.sql("test", "DROP TABLE public.far")
        finally:
            execute(control, f"DROP TABLESPACE space_{name}")
            execute(control, f"DROP ROLE role_{name}")
        before = state(prepared)
        assert f"role_{name}" in prepared.refused(*_restore(prepared))["message"]
        assert_failed(prepared, before, f"role_{name}")
        error = prepared.refused(*_restore(prepared, "--no-owner"))
        assert f"space_{name}" in error["message"]
        assert_failed(prepared, before, f"space_{name}")


def test_a_cast_that_is_there_already(
    installation15: Installation, installation18: Installation
) -> None:
    """Fault 19: PostgreSQL 18 brings a cast that somebody had to make himself before; and only a
    superuser may make one at all."""
    installation15.result("init_db", "--env", "test")
    database = installation15.databases["test"].database
    with session(installation15.server.superuser.with_database(database)) as connection:
        execute(
            connection,
            """CREATE FUNCTION public.packed(integer) RETURNS bytea LANGUAGE sql IMMUTABLE
                 AS $$ SELECT pg_catalog.decode(pg_catalog.to_hex($1), 'hex') $$;
               CREATE CAST (integer AS bytea) WITH FUNCTION public.packed(integer);
               ALTER FUNCTION public.packed(integer) OWNER TO skinspire_app""",
        )
    restore = _from_15(installation15, installation18)
    before = state(installation18)
    server, name = installation18.server, installation18.databases["test"].database
    for who, words in (
        (server.params, "must be owner of type"),
        (server.superuser, "already exists"),
    ):
        installation15.variables["TEST_DATABASE_URL"] = _url(who.with_database(name))
        assert words in installation15.refused(*restore)["message"]
        assert_recorded(installation15, words)
        assert state(installation18) == before
        assert installation18.scratch() == []


def test_a_constraint_that_cannot_be_met(prepared: Installation) -> None:
    """Fault 19: it looks for a table where no restore would find it."""
    prepared.sql(
        "test",
        """SET search_path = public;
           CREATE FUNCTION public.is_known(integer) RETURNS boolean LANGUAGE plpgsql STABLE
             AS $$ BEGIN RETURN EXISTS (SELECT FROM patients WHERE id = $1); END $$;
           CREATE TABLE public.used (id integer CHECK (public.is_known(id)));
           INSERT INTO public.used VALUES (1)""",
    )
    prepared.variables["BACKUP"] = prepared.result("dbbackup", "-d", "test")["name"]
    before = state(prepared)
    for options in ([], ["--in-place"], ["--schema", "public"]):
        error = prepared.refused(*_restore(prepared, *options))
        assert 'relation "patients" does not exist' in error["message"]
        assert_failed(prepared, before, "does not exist")


def _kill_in(
    installation: Installation, phase: str, command: list[str], restored: dict[str, str]
) -> None:
    """Kill a restore of what is no longer there, look, sweep, and let a second run end it."""
    installation.sql("test", f"UPDATE public.notes SET note = '{phase}'")
    before = state(installation)
    process = installation.start(*command)
    wait_for_step(process, phase)
    kill(process, installation)
    if phase != "swap" or installation.hashes("test") != restored:
        assert state(installation) == before, phase
    assert len(installation.result("operations", "sweep")["interrupted"]) == 1
    assert_nothing_left(installation)
    assert_recorded(installation, "process died", "interrupted")
    installation.result(*command)
    assert installation.hashes("test") == restored, phase


def test_kill_9_in_each_phase(prepared: Installation) -> None:
    """Fault 20: the old database or the new one bears the name, and a second run converges."""
    restored = prepared.hashes("test")
    for phase in ("create", "load", "analyse", "prove", "swap"):
        _kill_in(prepared, phase, _restore(prepared), restored)


def test_kill_9_in_each_phase_of_a_restore_without_a_swap(prepared: Installation) -> None:
    """Fault 20: what is not committed is rolled back."""
    restored = prepared.hashes("test")
    table = _restore(prepared, "--table", "notes", "--table", "patients")
    for phase in ("dump", "replace"):
        _kill_in(prepared, phase, table, restored)
    for phase in ("load", "prove"):
        _kill_in(prepared, phase, _restore(prepared, "--in-place"), restored)


def test_the_postmaster_is_killed_in_each_phase(own: Installation) -> None:
    """Fault 21: the same of the server; the row says failed, since our command lives to say it."""
    restored = own.hashes("test")
    for phase in ("create", "load", "prove", "swap"):
        own.sql("test", f"UPDATE public.notes SET note = '{phase}'")
        checkpoint(own.server)
        before = state(own)
        process = own.start(*_restore(own))
        wait_for_step(process, phase)
        kill_postmaster(own.server)
        code, err = ended(process)
        own.server.embedded.start()
        if phase != "swap" or own.hashes("test") != restored:
            assert (code, state(own)) == (1, before), (phase, err)
        assert_recorded(own, "", "failed" if code else "succeeded")
        own.result("operations", "sweep")
        assert_nothing_left(own)
        own.result(*_restore(own))
        assert own.hashes("test") == restored, phase


def test_the_servers_disk_is_full(tmp_path: Path) -> None:
    """Fault 22: in the middle of the load; with room made, the next run succeeds."""
    with (
        own_server() as server,
        small_disk(server) as leave,
        Installation.create(server, tmp_path) as own,
    ):
        prepare(own)
        make_noise(own, 32)
        own.variables["BACKUP"] = own.result("dbbackup", "-d", "test")["name"]
        checkpoint(server)  # new databases are full of holes until then
        before = state(own)
        for options in ([], ["--in-place"], ["--table", "noise"]):
            # More than a segment of the log, which the limit on files would end as well.
            leave(20 * MEGABYTE)
            error = own.refused(*_restore(own, *options))
            assert re.search("No space left|File too large", error["message"]), error
            leave(512 * MEGABYTE)  # or there is no room to sort what is to be compared
            assert_failed(own, before, "could not extend file")
        own.result(*_restore(own))


@pytest.mark.parametrize("options", [["--table", "notes"], ["--in-place"]])
def test_no_safety_copy_no_restore(prepared: Installation, options: list[str]) -> None:
    """Fault 23: what is about to be replaced cannot be backed up, so nothing is."""
    restored = prepared.hashes("test")
    prepared.sql("test", "UPDATE public.notes SET note = 'now'")
    before = state(prepared)
    with read_only(prepared.home / "backups"):
        answer = prepared.run(*_restore(prepared, *options), "--json", code=1)
        assert answer.json["error"]["code"] == "storage"
        assert {"replace", "empty"} & set(answer.err.split()) == set()
        assert_failed(prepared, before, "cannot be written")
    prepared.result(*_restore(prepared, *options))
    assert prepared.hashes("test") == restored


def test_hostile_scripts(prepared: Installation, tmp_path: Path) -> None:
    """Fault 25: what would reach out of the database is refused, and never run."""
    before, canary = state(prepared), tmp_path / "canary"
    dev = prepared.databases["dev"].database
    for line in (
        f"\\! touch {canary}",
        f"\\c {dev}",
        f"\\copy public.t from program 'touch {canary}'",
        f"DROP DATABASE {dev};",
        f"CREATE DATABASE {dev}_too;",
        f"COPY public.t FROM PROGRAM 'touch {canary}';",
        f"COPY (SELECT 1) TO PROGRAM 'touch {canary}';",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f();",
    ):
        script = tmp_path / "hostile.sql"
        script.write_text(
            f"""CREATE TABLE public.t (i int);
                CREATE FUNCTION public.f() RETURNS event_trigger LANGUAGE plpgsql
                  AS $$ BEGIN END $$;
                {line}
            """
        )
        error = prepared.refused(*RESTORE, "-I", str(script))
        assert_failed(prepared, before, error["message"])
        assert not canary.exists(), line
    with session(prepared.server.params) as control:
        there = fetch_all(control, "SELECT datname FROM pg_database WHERE datname ~ %s", [dev])
    assert there == [(dev,)]


def test_no_script_is_run_by_a_superuser(prepared: Installation, tmp_path: Path) -> None:
    """Fault 25: who may do anything on the server runs nothing that was made elsewhere."""
    before, script = state(prepared), tmp_path / "harmless.sql"
    script.write_text("CREATE TABLE public.t (i int);")
    superuser = prepared.server.superuser.with_database(prepared.databases["test"].database)
    prepared.variables["TEST_DATABASE_URL"] = _url(superuser)
    error = prepared.refused(*RESTORE, "-I", str(script))
    assert error["code"] == "foreign_dump"
    assert_failed(prepared, before, "superuser")


def test_a_dump_of_a_newer_pg_dump(installation15: Installation, tmp_path: Path) -> None:
    """Fault 26: pg_dump 18 sets transaction_timeout, which PostgreSQL 15 does not know. Plain SQL
    arrives all the same; an archive 15's pg_restore cannot read is refused, and says so."""
    prepare(installation15)
    before = state(installation15)
    archive, plain = tmp_path / "new.dump", tmp_path / "new.sql"
    source = installation15.databases["test"]
    schemas = ["--schema=public", "--schema=skinspire"]
    _dump(source, 18, archive, "--format=custom", *schemas)
    error = installation15.refused(*RESTORE, "-I", str(archive))
    assert error["code"] == "version_mismatch"
    assert_failed(installation15, before, "newer pg_dump than pg_restore 15 can read")
    assert b"SET transaction_timeout" in _dump(source, 18, plain, *schemas)
    restored = installation15.hashes("test")
    installation15.sql("test", "DROP TABLE public.notes")
    installation15.result(*RESTORE, "-I", str(plain))
    assert installation15.hashes("test") == restored


def test_a_dump_without_a_schema_it_needs(prepared: Installation, tmp_path: Path) -> None:
    """Tables of public have triggers whose functions are in skinspire."""
    before = state(prepared)
    dump = tmp_path / "public.sql"
    _dump(prepared.databases["test"], 18, dump, "--schema=public")
    error = prepared.refused(*RESTORE, "-I", str(dump))
    assert 'schema "skinspire" does not exist' in error["message"]
    assert "without --schema" in error["hint"]
    assert_failed(prepared, before, 'schema "skinspire" does not exist')
