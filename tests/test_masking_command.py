"""``manage.py masking`` and the system check, as a team meets them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from django.core.checks import Tags, run_checks

from dbops import conf
from dbops.exceptions import ConfigurationError
from tests.installation import Installation

CANARY = "Kanarienvogel"
TABLE = f"""
CREATE SCHEMA s;
CREATE TABLE s.patients (id int PRIMARY KEY, name text NOT NULL, born date, note text, doc jsonb);
INSERT INTO s.patients SELECT g, '{CANARY}', '1980-01-01', '{CANARY}', '{{"a": "{CANARY}"}}'
  FROM generate_series(1, 9) g;
"""
RULES = """["s.patients"]
name = "name"
born = { strategy = "date_shift", person = "id" }
note = "free_text"
"""


def prepared(installation: Installation, tmp_path: Path, rules: str) -> Installation:
    installation.sql("prod", TABLE)
    file = tmp_path / "rules.toml"
    file.write_text(rules)
    installation.variables["DBOPS_MASKING_FILE"] = str(file)
    return installation


def test_missing_then_suggested_then_nothing_missing(
    installation: Installation, tmp_path: Path
) -> None:
    made = prepared(installation, tmp_path, "")
    answer = made.run("masking", "--missing", code=1)
    assert "s.patients.name  text" in answer.out
    assert "4 columns of prod are covered by no masking rule." in answer.err
    failed = made.run("masking", "--missing", "--json", code=1).json
    assert failed["error"]["code"] == "masking"
    assert failed["result"]["missing"][0] == {
        "table": "s.patients", "column": "name", "type": "text",
    }  # fmt: skip
    suggested = made.run("masking", "--suggest").out
    rules = tomllib.loads(suggested)["s.patients"]
    assert rules["name"] == "name"
    assert rules["born"] == {"strategy": "date_shift", "person": "id"}
    assert rules["note"] == "free_text"
    assert rules["doc"]["strategy"] == "jsonb"
    (tmp_path / "rules.toml").write_text(suggested)
    assert made.result("masking", "--missing") == {"missing": []}
    assert "Every column of prod is covered." in made.run("masking", "--missing").out
    assert made.run("masking", "--suggest").out == ""


def test_the_summary_counts_and_names_problems(
    installation18: Installation, tmp_path: Path
) -> None:
    made = prepared(installation18, tmp_path, RULES + '["s.gone"]\na = "keep"\n')
    result = made.result("masking")
    assert result["environment"] == "prod"
    [patients] = [each for each in result["tables"] if each["table"] == "s.patients"]
    assert patients == {
        "table": "s.patients", "left_out": False, "masked": 3, "kept": 0, "safe": 1, "missing": 1,
        "strategies": {"safe": 1, "name": 1, "date_shift": 1, "free_text": 1, "uncovered": 1},
    }  # fmt: skip
    assert result["problems"] == ["s.patients.doc (jsonb) has no rule."]
    assert result["notes"] == ["There are rules for tables that do not exist: s.gone."]
    shown = made.run("masking")
    assert "s.patients.doc (jsonb) has no rule." in shown.out
    assert "masking --suggest" in shown.err
    assert made.result("masking", "--env", "dev")["tables"] == []


def test_a_preview_shows_false_values_alone(installation18: Installation, tmp_path: Path) -> None:
    made = prepared(installation18, tmp_path, RULES)
    before = made.hashes("prod")
    answer = made.run("masking", "--preview", "s.patients", "--limit", "2", "--json")
    rows = answer.json["result"]["rows"]
    assert len(rows) == 2
    assert set(rows[0]) == {"name", "born", "note"}
    assert rows[0]["name"] == rows[1]["name"]
    text = made.run("masking", "--preview", "s.patients")
    assert rows[0]["name"] in text.out
    for said in (answer.out, answer.err, text.out, text.err):
        assert CANARY not in said
    assert made.hashes("prod") == before
    assert "There is no table" in made.run("masking", "--preview", "s.none", code=2).err
    assert made.run("masking", "--preview", "s.patients", "--limit", "0", code=2)
    assert made.run("masking", "--missing", "--suggest", code=2)


def test_the_key_decides_and_may_be_one_of_its_own(
    installation18: Installation, tmp_path: Path
) -> None:
    made = prepared(installation18, tmp_path, RULES)

    def born() -> str:
        row = made.result("masking", "--preview", "s.patients", "--limit", "1")["rows"][0]
        return json.dumps(row)

    first = born()
    assert born() == first
    key = tmp_path / "key"
    key.write_text("k" * 40)
    made.variables["MASKING_KEY_FILE"] = str(key)
    second = born()
    assert second != first
    (made.home / "secret_key").write_text("another " * 8)
    assert born() == second
    key.write_text("short")
    refused = made.refused("masking", "--preview", "s.patients")
    assert refused["code"] == "configuration"
    assert "short" not in refused["message"].replace("shorter", "")


def test_a_mistake_in_the_file_is_told_by_command_and_check(
    installation18: Installation, tmp_path: Path
) -> None:
    made = prepared(installation18, tmp_path, '["s.patients"]\nname = "nmae"\n')
    error = made.refused("masking")
    assert error["code"] == "masking"
    assert "rules.toml: s.patients.name: there is no strategy 'nmae'" in error["message"]
    assert "dbops.E030" in made.run("check", code=1).err


def test_our_own_models_are_covered_and_others_noticed(
    installation18: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_checks(tags=[Tags.models]) == []
    file = tmp_path / "empty.toml"
    file.write_text('["public.accounts_user"]\nusername = "hash"\n')
    monkeypatch.setattr("django.conf.settings.DBOPS_MASKING_FILE", str(file))
    warnings = {
        str(warning.obj._meta.db_table): warning for warning in run_checks(tags=[Tags.models])
    }
    user = warnings["accounts_user"]
    assert user.id == "dbops.W030"
    assert "password" in user.msg
    assert "username" not in user.msg
    assert "is_staff" not in user.msg
    assert not [table for table in warnings if table.startswith("dbops_")]


def test_the_tables_django_makes_are_covered(installation18: Installation) -> None:
    installation18.result("init_db", "--env", "prod", "--confirm", "prod")
    result = installation18.result("masking")
    assert result["problems"] == []
    left_out = {each["table"] for each in result["tables"] if each["left_out"]}
    assert {"public.django_session", "public.django_admin_log"} <= left_out


def test_the_key_of_masks_signs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.MASKING_KEY", "")
    derived = conf.masking_key()
    assert len(derived) == 32
    assert derived not in conf.signing_keys()
    monkeypatch.setattr("django.conf.settings.MASKING_KEY", "m" * 32)
    assert conf.masking_key() != derived
    monkeypatch.setattr("django.conf.settings.MASKING_KEY", "m" * 31)
    with pytest.raises(ConfigurationError):
        conf.masking_key()
