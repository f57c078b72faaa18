"""``.env``: read strictly, told by line and name, never by value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skinspire.dotenv import read_dotenv, scan
from skinspire.known import likely_meant
from skinspire.masked import mask_url
from tests.installation import Answer
from tests.test_environment import PROD, ROOT
from tests.warm import kept, run_manage

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    ("content", "identifier", "told"),
    [
        ("A=1\nSECRET_KEY\n", "dbops.E007", "line 2 is no assignment"),
        (f"SECRET_KEY: {CANARY}", "dbops.E007", "line 1 is no assignment"),
        (f"SECRET_KEY = {CANARY}", "dbops.E007", "line 1 (SECRET_KEY) is no assignment"),
        (f"  SECRET_KEY={CANARY}", "dbops.E007", "line 1 (SECRET_KEY) is no assignment"),
        (f"export  SECRET_KEY={CANARY}", "dbops.E007", "line 1 (SECRET_KEY) is no assignment"),
        (f"A=1\n\n# A=\nA={CANARY}", "dbops.E007", "line 4 (A) sets again what line 1 sets"),
        (f"A='{CANARY}", "dbops.E007", "line 1 (A) has a quotation mark without its other half"),
        (f'A={CANARY}"', "dbops.E007", "line 1 (A) has a quotation mark without its other half"),
        ("A='", "dbops.E007", "line 1 (A) has a quotation mark without its other half"),
        (f"A={CANARY}\0", "dbops.E007", "line 1 (A) holds a NUL character"),
        (f"A={CANARY}\u2028{CANARY}", "dbops.E007", "line 2 is no assignment"),
        (f"B=1\nA={CANARY}\xff".encode("latin-1"), "dbops.E007", "line 2 is not written in UTF-8"),
        (f"A={CANARY}\r\nB=2\r\n", "dbops.W007", "CRLF"),
        (f"\ufeffA={CANARY}", "dbops.W007", "line 1 begins with a byte order mark"),
        (f"A={CANARY} ", "dbops.W007", "line 1 (A) has blanks around its value"),
        (f"A= {CANARY}", "dbops.W007", "line 1 (A) has blanks around its value"),
        (f"A={CANARY} # mine", "dbops.W007", "line 1 (A) seems to end in a comment"),
    ],
)  # fmt: skip
def test_each_oddity_is_named_without_a_value(
    content: str | bytes, identifier: str, told: str
) -> None:
    """Fault 47: CRLF, duplicate keys, and whatever else a line can be."""
    found = scan(content if isinstance(content, bytes) else content.encode())
    assert [it.id for it in found.findings] == [identifier]
    assert told in found.findings[0].sentence
    assert CANARY not in found.findings[0].sentence


def test_what_means_one_thing_is_handed_on() -> None:
    lines = [
        "# comment",
        "",
        "   ",
        "  # indented",
        "export A=1",
        "B='two # words'",
        'C="x=y"',
        "D=",
    ]
    found = scan("\n".join(lines).encode())
    assert found.findings == []
    assert found.text.splitlines() == lines[4:]
    assert found.keys == {"A": 5, "B": 6, "C": 7, "D": 8}


def test_a_missing_file_counts_where_it_was_asked_for(tmp_path: Path) -> None:
    """Fault 47: missing."""
    assert read_dotenv(tmp_path / "absent").findings == []
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for path, required in (
        (tmp_path / "absent", True),
        (tmp_path / "link", False),
        (tmp_path, False),
    ):
        (finding,) = read_dotenv(path, required=required).findings
        assert (finding.id, "cannot be read" in finding.sentence) == ("dbops.E007", True)


def _manage(home: Path, *arguments: str, **variables: str) -> Answer:
    environment = kept("PATH") | {"SKINSPIRE_HOME": str(home)} | variables
    return Answer(*run_manage(arguments, environment))


def _dotenv(directory: Path, variables: dict[str, str], mode: int = 0o600) -> str:
    file = directory / "variables"
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize(
    ("mode", "environment", "code"),
    [(0o600, "prod", 0), (0o640, "prod", 0), (0o644, "prod", 1), (0o660, "prod", 1),
     (0o604, "dev", 0)],
)  # fmt: skip
def test_wide_permissions(tmp_path: Path, mode: int, environment: str, code: int) -> None:
    """Fault 47: a file that others may read is refused in prod and told elsewhere."""
    file = _dotenv(tmp_path, PROD | {"SKINSPIRE_ENV": environment, "MASKING_KEY": CANARY * 6}, mode)
    done = _manage(tmp_path, "check", SKINSPIRE_DOTENV=file)
    assert done.code == code, done.err
    open_to_others = mode & 0o027
    expected = "dbops.E009" if code else "dbops.W009"
    assert (expected in done.err) == bool(open_to_others)
    assert CANARY not in done.err + done.out


def test_the_file_reaches_the_settings_and_the_process_wins(tmp_path: Path) -> None:
    """Its values stay out of the process's own variables; what is not ours is handed on."""
    file = _dotenv(tmp_path, {
        "SECRET_KEY": f"'$begins-with-a-dollar-{CANARY}'", "DBOPS_KEEP_PREVIOUS_DAYS": "3",
        "DEBUG": "true", "AWS_DEFAULT_REGION": "eu-1", "AWS_SESSION_TOKEN": CANARY,
    })  # fmt: skip
    program = (
        "import os, json, django; django.setup(); from django.conf import settings as s;"
        "from skinspire.variables import env;"
        "print(json.dumps([s.SECRET_KEY, s.DBOPS_KEEP_PREVIOUS_DAYS, s.DEBUG,"
        " env.origin('DBOPS_KEEP_PREVIOUS_DAYS'), env.origin('DEBUG'), env.origin('MASKING_KEY'),"
        " {name: os.environ.get(name) for name in"
        "  ('SECRET_KEY', 'AWS_DEFAULT_REGION', 'AWS_SESSION_TOKEN')}]))"
    )
    done = _manage_python(tmp_path, program, SKINSPIRE_DOTENV=file, DEBUG="false")
    assert done == [
        f"$begins-with-a-dollar-{CANARY}", 3, False, ".env, line 2", "process", "default",
        {"SECRET_KEY": None, "AWS_DEFAULT_REGION": "eu-1", "AWS_SESSION_TOKEN": None},
    ]  # fmt: skip


def _manage_python(home: Path, program: str, **variables: str) -> Any:
    kept = {"PATH": os.environ["PATH"], "SKINSPIRE_HOME": str(home),
            "DJANGO_SETTINGS_MODULE": "skinspire.settings"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env=kept | variables,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_a_file_with_a_fault_stops_everything(tmp_path: Path) -> None:
    """Fault 47: nothing runs on half of the settings, and no value is printed."""
    file = tmp_path / "variables"
    file.write_text(f"PROD_DATABASE_URL =postgresql://a:{CANARY}@h/d\nSECRET_KEY={CANARY}\n")
    file.chmod(0o600)
    for command in (["check"], ["dbbackup", "--json"], ["pg", "start"]):
        done = _manage(tmp_path, *command, SKINSPIRE_DOTENV=str(file))
        assert done.code == 1, command
        assert CANARY not in done.err + done.out
        assert "line 1 (PROD_DATABASE_URL)" in done.err + done.out
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_FALLBACKS", "CONTROL_DATABASE_URL"])
@pytest.mark.parametrize(
    ("content", "identifier"),
    [(None, "dbops.E003"), (b"\n", "dbops.E003"), (b"\xff", "dbops.E003")],
)
def test_files_of_secrets_are_named_by_their_variable(
    name: str,
    content: bytes | None,
    identifier: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from skinspire import variables

    monkeypatch.setattr(variables, "findings", [])
    env = variables.Variables()
    file = tmp_path / CANARY
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setattr(variables.Variables, "ENVIRON", {f"{name}_FILE": str(file)})
    assert variables.read_secret(env, name) == ""
    (finding,) = variables.findings
    assert finding.id == "dbops.E003"
    assert name in finding.sentence
    assert CANARY not in finding.sentence


def test_a_file_of_a_secret_that_others_may_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from skinspire import variables

    monkeypatch.setattr(variables, "findings", [])
    file = tmp_path / "key"
    file.write_text(CANARY)
    file.chmod(0o644)
    monkeypatch.setattr(variables.Variables, "ENVIRON", {"MASKING_KEY_FILE": str(file)})
    assert variables.read_secret(variables.Variables(), "MASKING_KEY") == CANARY
    assert [it.id for it in variables.findings] == ["dbops.W009"]


def test_names_that_were_likely_meant() -> None:
    """In .env any name counts; of the process only what looks like ours."""
    meant = {
        "DEV_DATABSE_URL": "DEV_DATABASE_URL", "DEVELOPMENT_DATABASE_URL": "DEV_DATABASE_URL",
        "PRODUCTION_DATABASE_URL_FILE": "PROD_DATABASE_URL_FILE", "SECRET_KYE": "SECRET_KEY",
        "DBOPS_ALOW_UNMASKED": "DBOPS_ALLOW_UNMASKED", "SKINSPIRE_HOM": "SKINSPIRE_HOME",
    }  # fmt: skip
    others = ["PATH", "PGSSLMODE", "AWS_DEFAULT_REGION", "SKINSPIRE_TEST_ROOT",
              "SKINSPIRE_TEST_DATA", "SHOP_DATABASE_URL", "DEBUG", "SECRET_KEY_FILE"]  # fmt: skip
    assert dict(likely_meant([*meant, *others], anything=True)) == meant
    found = dict(likely_meant([*meant, *others], anything=False))
    assert found == meant
    assert dict(likely_meant(["ALOWED_HOSTS"], anything=True)) == {"ALOWED_HOSTS": "ALLOWED_HOSTS"}
    assert likely_meant(["ALOWED_HOSTS"], anything=False) == []


def test_a_typing_error_is_told_and_stops_nothing(tmp_path: Path) -> None:
    done = _manage(tmp_path, "check", DEV_DATABSE_URL=f"postgresql://a:{CANARY}@h/d")
    assert done.code == 0
    assert "dbops.W014" in done.err
    assert "did you mean DEV_DATABASE_URL?" in done.err
    assert CANARY not in done.err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://a:{}@h:5432/d", "postgresql://a:***@h:5432/d"),
        ("postgresql://a:{}@h1:1,h2:2/d?target_session_attrs=any",
         "postgresql://a:***@h1:1,h2:2/d?target_session_attrs=any"),
        ("postgresql://a@h/d?password={}&sslmode=require",
         "postgresql://a@h/d?password=***&sslmode=require"),
        ("postgresql://a:b@h/d?sslpassword={}", "postgresql://a:***@h/d?sslpassword=***"),
        ("postgresql://a:1/{}@h/d", "***"),
        ("postgresql://a:1#{}@h/d", "***"),
        ("postgresql://a:1?{}@h/d", "***"),
        ("postgresql://a:b@{}@h/d", "postgresql://a:***@h/d"),
        ("postgresql://a:{}@[h/d", "***"),
        ("postgresql://a:b@h/d?{}", "***"),
        ("{}", "***"),
        ("s3://bucket/p?endpoint_url=https://x:{}@h", "***"),
        ("postgresql://a:{}", "***"),  # the host was forgotten
        ("postgresql://a:{}/d", "***"),
        ("postgresql://a:{}%40h/d", "***"),
        ("postgresql:/a:{}/d", "***"),
        ("dev:{}", "***"),
        ("postgresql://a:b@h/d;password={}", "***"),
        ("postgresql://h/d?host=a:{}", "postgresql://h/d?host=***"),
        ("postgresql://a:{}@[::1]:5433/d", "postgresql://a:***@[::1]:5433/d"),
        ("postgresql://a:{}@%2Ftmp/d", "postgresql://a:***@%2Ftmp/d"),
        ("smtp://a%40x.org:{}@h:587", "smtp://a%40x.org:***@h:587"),
    ],
)  # fmt: skip
def test_masked_urls(url: str, shown: str) -> None:
    assert mask_url(url.format(CANARY)) == shown
