"""Which environment is active, and that nothing unknown ever becomes dev."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from skinspire.databases import MalformedUrl, database_from_url
from skinspire.environment import (
    FILE_NAME,
    UnknownEnvironment,
    discover_environment,
    normalize_environment,
)
from tests.warm import kept, run_manage

ROOT = Path(__file__).parents[1]
GOOD_KEY = "x9" + "Kd7_qLw2-ZrTb5Yh8Nc3Mv6Gf1Js4Pe0Ua" * 2
PROD = {
    "SKINSPIRE_ENV": "prod", "SECRET_KEY": GOOD_KEY, "ALLOWED_HOSTS": "db.example.org",
    "PROD_DATABASE_URL": "postgresql://a:b@db.example.org/prod",
    "BACKUP_RECIPIENTS": "age140fy5e49welxfmgvwnqkgeldygr03fldt2w3lkw32w2vml734ueq0u38x8",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dev", "dev"), ("Development", "dev"), (" TESTING ", "test"), ("production", "prod")],
)
def test_spellings(name: str, expected: str) -> None:
    assert normalize_environment(name) == expected


@pytest.mark.parametrize("name", ["", "develpment", "prod2", "dev;", "тест", "dev\0", "x" * 10**6])
def test_unknown_is_an_error(name: str) -> None:
    with pytest.raises(UnknownEnvironment) as caught:
        normalize_environment(name)
    assert len(str(caught.value)) < 200


def test_order_of_sources(tmp_path: Path) -> None:
    assert discover_environment(tmp_path, {}).name == "dev"
    assert discover_environment(tmp_path, {"DJANGO_ENV": "prod"}).name == "prod"
    (tmp_path / FILE_NAME).write_text("testing\n")
    assert discover_environment(tmp_path, {"DJANGO_ENV": "prod"}).name == "test"
    found = discover_environment(tmp_path, {"SKINSPIRE_ENV": "prod", "DJANGO_ENV": "dev"})
    assert (found.name, found.source) == ("prod", "SKINSPIRE_ENV")
    (tmp_path / FILE_NAME).write_text("nonsense")
    with pytest.raises(UnknownEnvironment):
        discover_environment(tmp_path, {"DJANGO_ENV": "prod"})


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://a:canary@h/d", "postgresql://a:canary@h:port/d",
            "postgresql://a:canary@h/", "sqlite:///x"],
)  # fmt: skip
def test_malformed_urls_name_the_variable_and_no_value(url: str) -> None:
    with pytest.raises(MalformedUrl) as caught:
        database_from_url("DEV_DATABASE_URL", url)
    assert "DEV_DATABASE_URL" in str(caught.value)
    assert "canary" not in str(caught.value)


def _check(home: Path, variables: dict[str, str], *options: str) -> tuple[int, str]:
    """Exit code and standard error of ``manage.py check``."""
    environment = {**kept("PATH", "HOME"), "SKINSPIRE_HOME": str(home), **variables}
    code, _, err = run_manage(("check", *options), environment)
    return code, err


@pytest.mark.parametrize(
    ("change", "identifier"),
    [
        ({"SKINSPIRE_ENV": "prodd"}, "dbops.E001"),
        ({"PROD_DATABASE_URL": "postgresql://a:canary@h:x/d"}, "dbops.E002"),
        ({"PROD_DATABASE_URL": "postgresql://a:1/canary@h/d"}, "dbops.E002"),
        ({"PROD_DATABASE_URL": "postgresql://a:canary@h:0/d"}, "dbops.E002"),
        ({"PROD_DATABASE_URL": "postgresql://a:canary@h:65536/d"}, "dbops.E002"),
        ({"PROD_DATABASE_URL": "postgresql://a:canary@h <x>/d"}, "dbops.E002"),
        ({"PROD_DATABASE_URL": "", "PROD_DATABASE_URL_FILE": "/nowhere/canary"}, "dbops.E003"),
        ({"PROD_DATABASE_URL": "", "PROD_DATABASE_URL_FILE": "/dev/null"}, "dbops.E003"),
        ({"PROD_DATABASE_URL_FILE": "/nowhere/canary"}, "dbops.E008"),
        ({"TEST_DATABASE_URL": "postgresql://c:canary@DB.example.org:5432/prod"}, "dbops.E015"),
        ({"CONTROL_DATABASE_URL": "postgresql://a:canary@db.example.org/prod"}, "dbops.E015"),
        ({"SKINSPIRE_HOME": "/dev/null/home"}, "dbops.E016"),
        (
            {"SKINSPIRE_HOME": "/dev/null/home", "SKINSPIRE_ENV": "dev", "SECRET_KEY": ""},
            "dbops.E016",
        ),
        ({"SKINSPIRE_DOTENV": "/nowhere/canary"}, "dbops.E007"),
        ({"DBOPS_ALLOW_COPY_TO_PROD": "perhaps"}, "dbops.E004"),
        ({"PROD_DATABASE_URL": "postgresql://skinspire:b@h/d"}, "dbops.E005"),
        ({"BACKUP_STORAGE_URL": "ftp://canary/d"}, "dbops.E006"),
        ({"BACKUP_STORAGE_URL": "s3://key:canary@bucket"}, "dbops.E006"),
        ({"BACKUP_STORAGE_URL_FILE": "/nowhere"}, "dbops.E003"),
        ({"DEBUG": "true"}, "dbops.E010"),
        ({"SECRET_KEY": ""}, "dbops.E011"),
        ({"SECRET_KEY": "changeme"}, "dbops.E011"),
        ({"ALLOWED_HOSTS": "*"}, "dbops.E012"),
        ({"ALLOWED_HOSTS": ""}, "dbops.E012"),
        ({"PROD_DATABASE_URL": ""}, "dbops.E013"),
        ({"BACKUP_RECIPIENTS": "age1canary"}, "dbops.E021"),
        ({"BACKUP_RECIPIENTS": f"{PROD['BACKUP_RECIPIENTS']}\nssh-rsa canary"}, "dbops.E021"),
        ({"BACKUP_IDENTITY": "canary"}, "dbops.E021"),
        ({"BACKUP_IDENTITY_FILE": "/nowhere"}, "dbops.E003"),
    ],
)
def test_each_check_has_a_hint_and_stops_commands(
    tmp_path: Path, change: dict[str, str], identifier: str
) -> None:
    code, err = _check(tmp_path, PROD | change)
    assert code == 1
    assert identifier in err
    assert "HINT" in err
    assert "Traceback" not in err
    assert "canary" not in err


def test_a_complete_production_passes(tmp_path: Path) -> None:
    assert _check(tmp_path, PROD, "--deploy", "--fail-level", "WARNING")[0] == 0


def test_a_production_that_does_not_encrypt_its_backups_is_warned(tmp_path: Path) -> None:
    code, err = _check(tmp_path, PROD | {"BACKUP_RECIPIENTS": ""}, "--fail-level", "WARNING")
    assert code == 1
    assert "dbops.W020" in err
    assert "BACKUP_RECIPIENTS" in err
    by_gpg = PROD | {"BACKUP_RECIPIENTS": "", "DBBACKUP_GPG_RECIPIENT": "open@x.org"}
    both = PROD | {
        "BACKUP_RECIPIENTS": f"{PROD['BACKUP_RECIPIENTS']},\n{PROD['BACKUP_RECIPIENTS']}"
    }
    elsewhere = PROD | {"BACKUP_RECIPIENTS": "", "SKINSPIRE_ENV": "dev"}
    for variables in (by_gpg, both, elsewhere):
        assert _check(tmp_path, variables, "--fail-level", "WARNING")[0] == 0


def test_secrets_come_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://a:b@db.example.org/prod\n")
    variables = {key: value for key, value in PROD.items() if key != "PROD_DATABASE_URL"}
    code, err = _check(tmp_path, variables | {"PROD_DATABASE_URL_FILE": str(secret)})
    assert code == 0, err


@pytest.mark.parametrize(
    ("change", "identifier"),
    [
        ({"DEBUG": "true"}, "dbops.E010"),
        ({"SECRET_KEY": "weak"}, "dbops.E011"),
        ({"ALLOWED_HOSTS": "*"}, "dbops.E012"),
    ],
)
def test_an_open_production_does_not_start(
    tmp_path: Path, change: dict[str, str], identifier: str
) -> None:
    """Fault 48: under gunicorn, which runs no system checks of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "skinspire.wsgi", "--bind=127.0.0.1:0", "--workers=1"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**kept("PATH", "HOME"), "SKINSPIRE_HOME": str(tmp_path), **PROD, **change},
    )  # fmt: skip
    assert done.returncode != 0
    assert identifier in done.stderr
    assert "Listening" in done.stderr  # it was our check, not the port
