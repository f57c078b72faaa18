"""What a database brings along that means something only where it comes from."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.installation import REPOSITORY, Installation

CLINIC = """
CREATE TABLE public.patients AS SELECT g AS id FROM generate_series(1, 5) g;
INSERT INTO public.django_session VALUES ('abc', 'data', now() + interval '1 day');
CREATE TABLE public.mail_queue AS SELECT 'to somebody' AS what;
"""


@pytest.fixture
def clinic(installation18: Installation) -> Installation:
    """test and prod hold a session and a queue of mail."""
    installation18.variables["DBOPS_DEFUSE"] = "mail_queue"
    for name, confirmed in (("test", []), ("prod", ["--confirm", "prod"])):
        installation18.result("init_db", "--env", name, *confirmed)
        installation18.sql(name, CLINIC)
    return installation18


def _held(installation: Installation, environment: str) -> Any:
    return installation.sql(
        environment,
        "SELECT (SELECT count(*) FROM public.django_session) * 100 "
        "+ (SELECT count(*) FROM public.mail_queue) * 10 "
        "+ (SELECT (count(*) = 5)::int FROM public.patients)",
    )


@pytest.mark.parametrize("strategy", ["template", "stream", "dump"])
def test_a_copy_leaves_sessions_and_pending_jobs_behind(
    clinic: Installation, strategy: str
) -> None:
    copied = clinic.run(
        "copy_db", "test", "dev", "--strategy", strategy, "--noinput", "--json"
    ).json  # fmt: skip
    assert _held(clinic, "dev") == 1
    assert copied["result"]["defused"] == {"public.django_session": 1, "public.mail_queue": 1}
    assert _held(clinic, "test") == 111, "the source keeps its own"
    shown = clinic.result("operations", "show", copied["operation"]["id"])
    assert any("Emptied" in line for line in map(str, shown["log"])), "the operator is told"


def test_tables_the_target_keeps_are_not_emptied(clinic: Installation) -> None:
    clinic.result("copy_db", "test", "dev", "--noinput")
    clinic.sql("dev", "INSERT INTO public.django_session VALUES ('dev', 'x', now())")
    clinic.result("copy_db", "test", "dev", "--preserve", "django_session", "--noinput")
    assert clinic.sql("dev", "SELECT session_key FROM public.django_session") == "dev"


def test_a_table_that_others_refer_to_stops_the_copy(clinic: Installation) -> None:
    clinic.sql("test", "ALTER TABLE public.mail_queue ADD id int PRIMARY KEY DEFAULT 1")
    clinic.sql("test", "CREATE TABLE public.bounces (mail int REFERENCES public.mail_queue)")
    clinic.sql("test", "INSERT INTO public.bounces VALUES (1)")
    error = clinic.refused("copy_db", "test", "dev", "--noinput")
    assert "mail_queue" in error["message"]
    assert "DBOPS_DEFUSE" in error["hint"]
    assert clinic.scratch() == []


@pytest.mark.parametrize("way", [[], ["--in-place"]])
def test_a_backup_of_another_environment_is_defused(clinic: Installation, way: list[str]) -> None:
    name = clinic.result("dbbackup", "-d", "test")["name"]
    clinic.result("init_db", "--env", "dev")
    restored = clinic.result("dbrestore", "-d", "dev", "-i", name, *way, "--noinput")
    assert _held(clinic, "dev") == 1
    assert restored["defused"] == {"public.django_session": 1, "public.mail_queue": 1}
    clinic.result("dbrestore", "-d", "test", "-i", name, *way, "--noinput")
    assert _held(clinic, "test") == 111, "in its own environment everything comes back"


@pytest.mark.parametrize("part", ["--table=public.django_session", "--schema=public"])
@pytest.mark.parametrize("source", ["-i", "-I"])
def test_parts_of_another_environment_are_defused(
    clinic: Installation, part: str, source: str
) -> None:
    """By --table and --schema nobody's session arrives either."""
    name = clinic.result("dbbackup", "-d", "test")["name"]
    clinic.result("copy_db", "test", "dev", "--noinput")
    file = name if source == "-i" else str(clinic.home / "backups" / name)
    restored = clinic.result("dbrestore", "-d", "dev", source, file, part, "--noinput")
    assert _held(clinic, "dev") == 1
    assert restored["defused"]["public.django_session"] == 1
    clinic.sql("test", "TRUNCATE public.django_session")
    clinic.result("dbrestore", "-d", "test", source, file, part, "--noinput")
    assert _held(clinic, "test") == 111


@pytest.mark.parametrize("way", [[], ["--in-place"]], ids=" ".join)
def test_a_dump_that_another_environment_stamped_is_defused(
    clinic: Installation, way: list[str]
) -> None:
    """pg_dump brings the stamp along: it tells that the sessions are not this one's."""
    file = str(clinic.home / "backups" / clinic.result("dbbackup", "-d", "test")["name"])
    clinic.result("init_db", "--env", "dev")
    clinic.result("dbrestore", "-d", "dev", "-I", file, *way, "--noinput")
    assert _held(clinic, "dev") == 1
    clinic.result("dbrestore", "-d", "test", "-I", file, *way, "--noinput")
    assert _held(clinic, "test") == 111


def test_a_table_of_a_dump_of_production_marks_where_it_went(clinic: Installation) -> None:
    file = str(clinic.home / "backups" / clinic.result("dbbackup", "-d", "prod")["name"])
    clinic.result("init_db", "--env", "test")
    table = ["-I", file, "--table", "public.patients", "--noinput"]
    assert "prod" in clinic.refused("dbrestore", "-d", "test", *table)["message"]
    clinic.result("dbrestore", "-d", "test", *table, "--no-mask")
    error = clinic.refused("copy_db", "test", "dev", "--noinput")
    assert "unmasked data of prod" in error["message"]


@pytest.mark.parametrize("strategy", ["template", "stream", "dump"])
def test_unmasked_patients_stay_protected_on_their_next_way(
    clinic: Installation, strategy: str
) -> None:
    clinic.result("copy_db", "prod", "test", "--no-mask", "--strategy", strategy, "--noinput")
    clinic.sql("test", "ALTER TABLE public.patients ADD name text DEFAULT 'Anna'")
    error = clinic.refused("copy_db", "test", "dev", "--noinput")
    assert error["code"] == "refused"
    assert "unmasked data of prod" in error["message"]
    clinic.result("copy_db", "test", "dev", "--no-mask", "--strategy", strategy, "--noinput")
    clinic.refused("copy_db", "dev", "test", "--noinput")
    assert "prod" in clinic.refused("copy_db", "dev", "test", "--noinput")["message"]


def test_a_backup_of_unmasked_patients_is_protected_like_them(clinic: Installation) -> None:
    clinic.result("copy_db", "prod", "test", "--no-mask", "--noinput")
    name = clinic.result("dbbackup", "-d", "test")["name"]
    error = clinic.refused("dbrestore", "-d", "dev", "-i", name, "--noinput")
    assert "data of prod would arrive in dev unmasked" in error["message"]
    file = str(clinic.home / "backups" / name)
    assert "prod" in clinic.refused("dbrestore", "-d", "dev", "-I", file, "--noinput")["message"]
    clinic.result("dbrestore", "-d", "test", "-i", name, "--noinput")
    error = clinic.refused("copy_db", "test", "dev", "--noinput")
    assert "unmasked data of prod" in error["message"], "it still is what it was"


def test_a_restored_backup_of_production_marks_where_it_went(clinic: Installation) -> None:
    name = clinic.result("dbbackup", "-d", "prod")["name"]
    clinic.result("dbrestore", "-d", "test", "-i", name, "--no-mask", "--noinput")
    error = clinic.refused("copy_db", "test", "dev", "--noinput")
    assert "unmasked data of prod" in error["message"]


_TOKENS = """
import django, json, sys; django.setup()
from django.test import Client
from accounts.models import User
from django.conf import settings
settings.ALLOWED_HOSTS = ["testserver"]
client, refresh = Client(), sys.argv[1]
def post(path, **body):
    return client.post(path, json.dumps(body), content_type="application/json", secure=True)
if not refresh:
    User.objects.create_user("nora", password="a long password of hers")
    refresh = post("/api/auth/token/", username="nora", password="a long password of hers").json()["refresh"]
answer = post("/api/auth/token/refresh/", refresh=refresh)
print(json.dumps([answer.json().get("refresh", refresh), answer.status_code]))
"""  # noqa: E501


def _refresh(installation: Installation, environment: str, token: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", _TOKENS, token], cwd=REPOSITORY, check=False,
        capture_output=True, text=True,
        env={**installation.environment, "SKINSPIRE_ENV": environment,
             "DJANGO_SETTINGS_MODULE": "skinspire.settings"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


_SIGNED_IN = """
INSERT INTO public.accounts_session (user_id, expires_at)
SELECT id, now() + interval '1 hour' FROM public.accounts_user;
SELECT count(*)::int FROM public.accounts_session
"""


def test_a_token_of_the_source_opens_nothing_in_the_target(installation18: Installation) -> None:
    """One SECRET_KEY signs for both, and the account is there in both."""
    installation18.result("init_db", "--env", "test")
    token, answer = _refresh(installation18, "test", "")
    assert answer == 200
    installation18.result("copy_db", "test", "dev", "--noinput")
    assert installation18.sql("dev", "SELECT count(*) FROM public.accounts_user") == 1
    assert _refresh(installation18, "dev", token)[1] == 401
    assert _refresh(installation18, "test", token)[1] == 200


def test_who_was_thrown_out_is_not_in_again_by_a_restore_or_an_undo(
    installation18: Installation,
) -> None:
    installation18.result("init_db", "--env", "test")
    token, answer = _refresh(installation18, "test", "")
    assert answer == 200
    backup = installation18.result("dbbackup", "-d", "test")["name"]
    end = "UPDATE public.accounts_session SET ended_at = now(), end_reason = 'ended_by_admin'"
    installation18.sql("test", end)
    restore = ("dbrestore", "-d", "test", "-i", backup, "--noinput")
    restored = installation18.run(*restore, "--json").json
    assert restored["result"]["defused"] == {"public.accounts_session": 1}
    assert _refresh(installation18, "test", token)[1] == 401
    later = installation18.sql("test", _SIGNED_IN)
    undone = installation18.run(*restore, "--json").json["operation"]["id"]
    installation18.result("undo_operation", undone, "--noinput")
    found = installation18.sql("test", "SELECT count(*) FROM public.accounts_session")
    assert (later, found) == (1, 0)
