"""Row history holds what patients' rows once held: it stays in its own environment, whichever way
rows go to another one, and it is kept, and proven, where they come back to their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dbops.postgres import triggers
from dbops.postgres.connection import execute, fetch_all, session
from dbops.postgres.fingerprint import Fingerprint, row_differences
from dbops.postgres.stamp import write_stamp
from dbops.postgres.triggers import HistoryRule, Wishes
from tests.faults import checkpoint
from tests.installation import Installation
from tests.triggering import install

WISHES = Wishes(history=(HistoryRule("public.patients"),))
CANARY = "kanarienvogel"


@pytest.fixture
def clinic(installation18: Installation, tmp_path: Path) -> Installation:
    """In prod, test and dev a patient bore another name, of which only the history tells."""
    rules = tmp_path / "rules.toml"
    rules.write_text('["public.patients"]\nname = "name"\n')
    installation18.variables |= {
        "DBOPS_ROW_HISTORY": "public.patients",
        "DBOPS_MASKING_FILE": str(rules),
    }
    for name, params in installation18.databases.items():
        with session(params) as connection:
            write_stamp(connection, name)
            execute(connection, "CREATE TABLE public.patients (id integer PRIMARY KEY, name text)")
            install(connection, WISHES)
        write(installation18, name, f"{CANARY} {name}")
        # Else a copy of files has what was. VACUUM would keep it for whoever looks at the database
        # meanwhile, an autovacuum's analyse too; a rewrite takes along what lives.
        rewritten = "ALTER TABLE public.patients ALTER name TYPE text USING name || ''"
        installation18.sql(name, rewritten)
    return installation18


def write(installation: Installation, environment: str, name: str = "Anna") -> None:
    installation.sql(
        environment,
        f"""INSERT INTO public.patients VALUES (1, '{name}') ON CONFLICT (id)
            DO UPDATE SET name = '{name}';
            UPDATE public.patients SET name = 'Anna' WHERE name <> 'Anna'""",
    )


def history(installation: Installation, environment: str) -> list[Any]:
    with session(installation.databases[environment]) as connection:
        return fetch_all(connection, "SELECT operation, h::text FROM skinspire.row_history h")


def assert_foreign_to(installation: Installation, environment: str, *others: str) -> None:
    """Nothing of the others' history is in the database, and what is written now is recorded."""
    before = len(history(installation, environment))
    text = str(history(installation, environment))
    assert not any(f"{CANARY} {other}" in text for other in others), text
    installation.sql(environment, "UPDATE public.patients SET name = 'Berta'")
    after = history(installation, environment)
    assert len(after) == before + installation.sql(
        environment, "SELECT count(*) FROM public.patients"
    )
    with session(installation.databases[environment]) as connection:
        assert not triggers.status(connection, WISHES).missing


def files_of(installation: Installation, environment: str) -> bytes:
    """What lies on disk of one environment's database, once all is written out."""
    name = installation.databases[environment].database
    oid = installation.sql(
        environment, f"SELECT oid::text FROM pg_database WHERE datname = '{name}'"
    )
    checkpoint(installation.server)
    directory = installation.server.embedded.data / "base" / str(oid)
    return b"".join(path.read_bytes() for path in directory.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("test", ["--strategy", "template", "--disconnect-source"]),
        ("test", ["--strategy", "stream"]),
        ("test", ["--strategy", "dump"]),
        ("test", ["--data-only"]),
        ("prod", []),
        ("prod", ["--no-mask"]),
    ],
    ids=lambda it: it if isinstance(it, str) else " ".join(it) or "masked",
)
def test_a_copy_takes_no_history_along(
    clinic: Installation, source: str, options: list[str]
) -> None:
    clinic.result("copy_db", source, "dev", "--noinput", *options)
    assert f"{CANARY} {source}".encode() not in files_of(clinic, "dev")
    assert_foreign_to(clinic, "dev", "test", "prod")
    assert f"{CANARY} {source}" in str(history(clinic, source)), "the source keeps its own"


def test_a_target_that_keeps_its_rows_keeps_their_history(clinic: Installation) -> None:
    clinic.sql("test", "ALTER TABLE public.patients ADD phone text")
    clinic.result("copy_db", "test", "dev", "--schema-only", "--noinput")
    assert f"{CANARY} dev" in str(history(clinic, "dev"))
    assert_foreign_to(clinic, "dev", "test")


def test_a_backup_of_the_same_environment_brings_its_history_back(clinic: Installation) -> None:
    before = history(clinic, "test")
    name = clinic.result("dbbackup", "-d", "test")["name"]
    manifest = json.loads((clinic.home / "backups" / f"{name}.metadata").read_text())
    assert '"history": 2' in json.dumps(manifest)
    assert clinic.result("verify_backup", name, "--full")["verified"]
    for way in ([], ["--in-place"]):
        write(clinic, "test", "Clara")
        assert history(clinic, "test") != before
        clinic.result("dbrestore", "-d", "test", "-i", name, "--noinput", *way)
        assert history(clinic, "test") == before
        with session(clinic.databases["test"]) as connection:
            assert not triggers.status(connection, WISHES).missing
    write(clinic, "test", "Dora")
    assert len(history(clinic, "test")) == len(before) + 2


def test_history_that_did_not_arrive_is_no_proof() -> None:
    def found(rows: int | None) -> Fingerprint:
        nothing: frozenset[str] = frozenset()
        return Fingerprint({}, nothing, nothing, nothing, nothing, "", history=rows)

    assert row_differences(found(2), found(1)) == [
        "skinspire.row_history holds 1 instead of 2 rows"
    ]
    assert row_differences(found(2), found(None)) != []
    assert row_differences(found(0), found(None)) == []
    assert row_differences(found(None), found(2)) == [], "an earlier backup does not tell"


@pytest.mark.parametrize("way", [[], ["--in-place"], ["-I"]], ids=" ".join)
def test_a_backup_of_another_environment_brings_none(clinic: Installation, way: list[str]) -> None:
    clinic.sql("test", "COMMENT ON SCHEMA public IS 'of the clinic'")  # the archive's first entry
    name = clinic.result("dbbackup", "-d", "test")["name"]
    named = ["-i", name, *way] if way != ["-I"] else ["-I", str(clinic.home / "backups" / name)]
    clinic.result("dbrestore", "-d", "dev", "--noinput", *named)
    comment = "SELECT obj_description('public'::regnamespace, 'pg_namespace')"
    assert clinic.sql("dev", comment) == "of the clinic", "what has no section arrives all the same"
    assert f"{CANARY} test".encode() not in files_of(clinic, "dev")
    assert_foreign_to(clinic, "dev", "test")


@pytest.mark.parametrize("way", [[], ["--in-place"]], ids=" ".join)
def test_a_dump_made_elsewhere_opens_no_function(clinic: Installation, way: list[str]) -> None:
    """Its grants stay behind, and with them what it revoked: the writer of the history acts as its
    owner, and is not left to everybody."""
    file = str(clinic.home / "backups" / clinic.result("dbbackup", "-d", "test")["name"])
    clinic.result("dbrestore", "-d", "dev", "-I", file, "--noinput", *way)
    assert not clinic.sql(
        "dev",
        """SELECT string_agg(proname, ' ') FROM pg_proc
            WHERE pronamespace = 'skinspire'::regnamespace
              AND has_function_privilege('public', oid, 'EXECUTE')""",
    )
    clinic.result("verify_triggers", "--env", "dev")
    clinic.result("diff_db", "test", "dev")


def test_a_dump_made_here_brings_its_history_back(clinic: Installation) -> None:
    name = clinic.result("dbbackup", "-d", "test")["name"]
    file = str(clinic.home / "backups" / name)
    clinic.result("dbrestore", "-d", "test", "-I", file, "--noinput")
    assert f"{CANARY} test" in str(history(clinic, "test"))
