"""What a backup is made of: sealed for somebody, readable without us, and what came before us."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from dbops.postgres.tools import find_tool
from tests.conftest import skip_or_fail
from tests.installation import REPOSITORY, Installation, row_hashes


@pytest.fixture
def clinic(installation18: Installation) -> Installation:
    installation18.result("init_db", "--env", "test")
    installation18.sql(
        "test",
        """CREATE TABLE public.patients AS SELECT g AS id, 'canary ' || md5(g::text) AS name
             FROM generate_series(1, 20000) g""",
    )
    return installation18


def _encrypt_for_somebody(clinic: Installation) -> pyrage.x25519.Identity:
    identity = pyrage.x25519.Identity.generate()
    clinic.variables["BACKUP_RECIPIENTS"] = str(identity.to_public())
    return identity


def test_an_encrypted_backup_opens_with_its_identity_alone(clinic: Installation) -> None:
    identity = _encrypt_for_somebody(clinic)
    backup = clinic.result("dbbackup", "-d", "test")
    assert backup["encrypted"] is True
    assert backup["name"].endswith(".dump.zst.age")
    assert b"canary" not in (clinic.home / "backups" / backup["name"]).read_bytes()
    restore = ["dbrestore", "-d", "dev", "-i", backup["name"], "--noinput"]
    before = clinic.hashes("dev")
    none = clinic.refused(*restore)
    assert (none["code"], "BACKUP_IDENTITY" in none["hint"]) == ("wrong_key", True)
    other = str(pyrage.x25519.Identity.generate())
    clinic.variables["BACKUP_IDENTITY"] = other
    wrong = clinic.refused(*restore)
    assert wrong["code"] == "wrong_key"
    assert other not in json.dumps(wrong)
    assert clinic.hashes("dev") == before
    # Whether it is whole can be told without being able to read it.
    del clinic.variables["BACKUP_IDENTITY"]
    assert clinic.result("verify_backup", backup["name"])["verified"] is True
    key = clinic.home / "identity"
    key.write_text(str(identity))
    clinic.variables["BACKUP_IDENTITY_FILE"] = str(key)
    clinic.result(*restore)
    assert clinic.hashes("dev") == clinic.hashes("test")


def test_encryption_that_is_wished_for_and_impossible_is_refused(clinic: Installation) -> None:
    error = clinic.refused("dbbackup", "-d", "test", "-e")
    assert "BACKUP_RECIPIENTS" in error["hint"]
    passphrase = clinic.refused("dbrestore", "-d", "dev", "-p", "x", code=2)
    assert "list of processes" in passphrase["message"]
    assert clinic.result("listbackups")["backups"] == []


def _documented(start: str) -> str:
    text = (REPOSITORY / "docs/backup-format.md").read_text()
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_documented_line_restores_without_us(clinic: Installation) -> None:
    name = clinic.result("dbbackup", "-d", "test")["name"]
    file = clinic.home / "backups" / name
    fresh = clinic.server.create_database()
    tools = find_tool("pg_restore", 18).parent
    line = _documented("zstd -d").replace("NAME", shlex.quote(str(file)))
    environment = {
        **os.environ, **fresh.libpq_environment(), "PGPASSWORD": fresh.password,
        "PATH": f"{tools}:{os.environ['PATH']}",
    }  # fmt: skip
    try:
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", line.replace("NEWDB", fresh.database)],
            env=environment, check=True,
        )  # fmt: skip
        assert row_hashes(fresh) == clinic.hashes("test")
    finally:
        clinic.server.drop_database(fresh.database)


def _make_with_dbbackup(clinic: Installation, *options: str, settings: str = "") -> str:
    """A backup by django-dbbackup as it ships."""
    store = clinic.home / "backups"
    store.mkdir(exist_ok=True)
    module = clinic.home / "plain_settings.py"
    params = clinic.databases["test"]
    module.write_text(f"""
INSTALLED_APPS = ["dbbackup"]
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", "NAME": {params.database!r},
    "HOST": {params.host!r}, "PORT": {params.port}, "USER": {params.user!r},
    "PASSWORD": {params.password!r}}}}}
STORAGES = {{"default": {{"BACKEND": "django.core.files.storage.FileSystemStorage"}},
    "dbbackup": {{"BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {{"location": {str(store)!r}}}}}}}
{settings}
""")
    before = set(store.iterdir())
    subprocess.run(
        [sys.executable, "-m", "django", "dbbackup", "--noinput", *options],
        env={**os.environ, "PYTHONPATH": str(clinic.home), "DJANGO_SETTINGS_MODULE": module.stem,
             "PATH": f"{find_tool('pg_dump', 18).parent}:{os.environ['PATH']}"},
        check=True, capture_output=True,
    )  # fmt: skip
    (made,) = (it for it in set(store.iterdir()) - before if it.suffix != ".metadata")
    return made.name


@pytest.mark.parametrize(
    ("options", "connector", "ending"),
    [
        ((), "PgDumpBinaryConnector", ".psql.bin"),
        (("-z",), "PgDumpBinaryConnector", ".psql.bin.gz"),
        ((), "PgDumpConnector", ".psql"),
    ],
)
def test_backups_that_django_dbbackup_made_before_us(
    clinic: Installation, options: tuple[str, ...], connector: str, ending: str
) -> None:
    choice = {"default": {"CONNECTOR": f"dbbackup.db.postgresql.{connector}"}}
    chosen = f"DBBACKUP_CONNECTORS = {choice}"
    name = _make_with_dbbackup(clinic, *options, settings=chosen)
    assert name.endswith(ending)
    (listed,) = clinic.result("listbackups")["backups"]
    assert (listed["name"], listed["signed"]) == (name, False)
    clinic.result("dbrestore", "-d", "dev", "-i", name, "--noinput")
    assert clinic.hashes("dev") == clinic.hashes("test")
    # One cut off is refused, with the target as it was.
    file = clinic.home / "backups" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    before = clinic.hashes("dev")
    clinic.refused("dbrestore", "-d", "dev", "-i", name, "--noinput")
    assert clinic.hashes("dev") == before


def test_backups_that_django_dbbackup_sealed_by_gpg(clinic: Installation, tmp_path: Path) -> None:
    if subprocess.run(["which", "gpg"], check=False, capture_output=True).returncode:
        skip_or_fail("gpg is not installed")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--yes"]
    try:
        subprocess.run(
            [*gpg, "--passphrase", "", "--quick-gen-key", "clinic@example.org"],
            check=True, capture_output=True,
        )  # fmt: skip
        plain = _make_with_dbbackup(clinic)
        file = clinic.home / "backups" / plain
        subprocess.run([*gpg, "--trust-model", "always", "-r", "clinic@example.org",
                        "--output", f"{file}.gpg", "--encrypt", str(file)], check=True,
                       capture_output=True)  # fmt: skip
        file.unlink()
        clinic.variables["GNUPGHOME"] = str(home)
        (listed,) = clinic.result("listbackups", "-e")["backups"]
        assert listed["name"] == plain + ".gpg"
        clinic.result("dbrestore", "-d", "dev", "-i", plain + ".gpg", "--noinput")
        assert clinic.hashes("dev") == clinic.hashes("test")
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


def test_one_of_ours_never_passes_for_an_unsigned_one(clinic: Installation) -> None:
    error = clinic.refused("dbbackup", "-d", "test", "-o", "mine.psql.bin", code=2)
    assert "no name for a backup" in error["message"]
    name = clinic.result("dbbackup", "-d", "test")["name"]
    for suffix in ("", ".metadata"):
        file = clinic.home / "backups" / (name + suffix)
        file.rename(clinic.home / "backups" / ("stolen.psql.bin" + suffix))
    clinic.refused("dbrestore", "-d", "dev", "-i", "stolen.psql.bin", "--noinput")


def test_wrong_names_get_the_nearest(clinic: Installation) -> None:
    name = clinic.result("dbbackup", "-d", "test")["name"]
    error = clinic.refused("dbrestore", "-d", "test", "-i", name[:-9] + "x.dump.zst", "--noinput")
    assert name in error["hint"]
    assert name in clinic.refused("verify_backup", name[:-4])["hint"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PK\x03\x04 zip", "zip"),
        (b"SQLite format 3\x00rest", "SQLite"),
        (b"-- MySQL dump 10.13\n/*!40101 SET x */;", "MySQL"),
        (b"7z\xbc\xaf\x27\x1c", "7-zip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
    ],
)
def test_other_formats_are_recognised(
    clinic: Installation, tmp_path: Path, content: bytes, says: str
) -> None:
    file = tmp_path / "given"
    file.write_bytes(content)
    error = clinic.refused("dbrestore", "-d", "dev", "-I", str(file), "--noinput")
    assert says in error["message"]
    assert error["hint"]


def test_a_manifest_tells_all_that_is_promised(clinic: Installation) -> None:
    name = clinic.result("dbbackup", "-d", "test", "--checksums")["name"]
    manifest = json.loads((clinic.home / "backups" / f"{name}.metadata").read_text())
    promised = {
        field
        for line in (REPOSITORY / "docs/backup-format.md").read_text().splitlines()
        if line.startswith("| `")
        for field in line.split("|")[1].replace("`", "").replace(" ", "").split(",")
        if field not in ("NAME", "NAME.metadata", "NAME.pinned")
    }
    written = manifest.keys() | manifest["fingerprint"].keys()
    assert written == promised
    assert manifest["format"] == "skinspire-backup-2"
    assert manifest["migrations"]
    assert manifest["largest_tables"]["public.patients"] > 0
    assert manifest["properties"]["encoding"] == "UTF8"
