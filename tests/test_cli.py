"""The contract of the command line: JSON, exit codes, one line of cause, no traceback."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.installation import Installation
from tests.test_examples import command_class


def test_json_of_an_operation(installation18: Installation) -> None:
    answer = installation18.run("init_db", "--env", "development", "--json").json
    operation = answer["operation"]
    assert set(operation) == {
        "id", "kind", "status", "source", "target", "actor", "started_at", "finished_at", "seconds",
    }  # fmt: skip
    assert operation["status"] == "succeeded"
    assert operation["target"] == "dev"
    started = datetime.fromisoformat(operation["started_at"])
    assert started.utcoffset() is not None
    assert operation["seconds"] >= 0
    backup = installation18.result("dbbackup", "-d", "dev")
    assert {"name", "size", "sha256", "rows", "tables", "encrypted"} <= set(backup)
    listed = installation18.result("listbackups")["backups"][0]
    assert set(listed) == {
        "name", "environment", "created_at", "size", "verified_at", "verified_how", "encrypted",
        "pinned", "partial", "signed",
    }  # fmt: skip
    shown = installation18.result("operations", "show", operation["id"])
    assert {"operation", "steps", "log"} <= set(shown)


def test_wrong_usage_is_2_and_refusal_is_1(installation18: Installation) -> None:
    run = installation18.run
    assert "usage" in run("copy_db", "test", code=2).err
    assert "Unknown environment" in run("copy_db", "tset", "dev", "--noinput", code=2).err
    assert "Unknown environment" in run("dbbackup", "-d", "x" * 60_000, code=2).err
    assert run("operations", "show", code=2)
    assert run("operations", "show", "no-such-id", code=1)
    assert run("dbrestore", "-i", "a", "-I", "b", "--noinput", code=2)
    assert run("pg", "restart", code=2)
    for empty in (
        ["dbrestore", "-d", ""],
        ["dbrestore", "-d", "dev", "-I", ""],
        ["dbbackup", "-d", ""],
        ["undo_operation", ""],
        ["copy_db", "", "dev"],
    ):
        assert run(*empty, "--noinput", code=2), empty


def test_json_of_a_failure_is_one_object_and_one_line(installation18: Installation) -> None:
    answer = installation18.run("dbrestore", "-d", "dev", "--noinput", "--json", code=1)
    assert set(answer.json["error"]) == {"code", "message", "hint"}
    assert answer.out.count("\n") == 1
    assert answer.err.startswith("Error: ")


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "..%2fx", "a\nb", ".hidden", "x" * 300, "ä", "-x"]
)
def test_hostile_backup_names_do_not_exist(installation18: Installation, name: str) -> None:
    installation18.result("init_db", "--env", "dev")
    answer = installation18.run("dbrestore", "-d", "dev", f"--input-filename={name}", "--noinput",
                                code=1)  # fmt: skip
    assert "no backup" in answer.err


def test_what_does_not_exist_is_told_before_anybody_is_asked(
    installation18: Installation,
) -> None:
    """Neither a question nor the name of a protected environment comes first."""
    installation18.sql("dev", "CREATE TABLE public.here AS SELECT 1 AS id")
    name = installation18.result("dbbackup", "-d", "dev")["name"]
    refused = installation18.refused
    for target in ("dev", "prod"):
        nowhere = ["-I", str(installation18.home / "nowhere.dump")]
        for source in (["-i", "nothing.dump.zst"], nowhere):
            assert refused("dbrestore", "-d", target, *source)["code"] == "backup_not_found"
        for part in (["--table", "hree"], ["--schema", "nothing"]):
            error = refused("dbrestore", "-d", target, "-i", name, *part)
            assert "holds no" in error["message"]
        # And where everything is there, the question is all that remains.
        there = ["dbrestore", "-d", target, "-i", name, "--table", "here"]
        assert refused(*there)["code"] == "not_confirmed"


@pytest.mark.parametrize(
    "name",
    [
        'we"ird',
        "dbname=postgres",
        "-dash",
        "a'b",
        "$$x$$;",
        "two\nlines",
        "ä" * 31,
        "مرحبا",
        "a b%s",
    ],
)
def test_hostile_database_names_mean_themselves(installation18: Installation, name: str) -> None:
    """libpq would expand a name with ``=`` into a connection string."""
    from urllib.parse import quote

    params = installation18.server.create_database(name)
    try:
        url = installation18.server.url(quote(name, safe=""))
        installation18.variables["DEV_DATABASE_URL"] = url
        installation18.databases["dev"] = params
        installation18.result("init_db", "--env", "dev")
        installation18.sql("dev", "CREATE TABLE public.here AS SELECT 1 AS id")
        backup = installation18.result("dbbackup", "-d", "dev")
        assert backup["tables"] > 1
        expected = installation18.hashes("dev")
        installation18.sql("dev", "DROP TABLE public.here")
        result = installation18.result("dbrestore", "-d", "dev", "-i", backup["name"], "--noinput")
        assert result["database"] == name
        assert installation18.hashes("dev") == expected
        installation18.server.drop_database(result["previous"])
    finally:
        installation18.server.drop_database(name)


def test_two_backups_in_one_second_are_two(installation18: Installation) -> None:
    installation18.result("init_db", "--env", "dev")
    first = installation18.start("dbbackup", "-d", "dev", "--json")
    second = installation18.start("dbbackup", "-d", "dev", "--json")
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len({item["name"] for item in installation18.result("listbackups")["backups"]}) == 2


def test_dbbackups_own_options(installation18: Installation) -> None:
    installation18.result("init_db", "--env", "dev")
    installation18.sql("dev", "CREATE TABLE public.big AS SELECT 1 AS id")
    result = installation18.result("dbbackup", "-d", "dev", "-z", "-s", "web1", "-x", "public.big",
                                   "-q")  # fmt: skip
    assert result["name"].startswith("web1-dev-")
    error = installation18.refused("dbrestore", "-d", "dev", "-i", result["name"], "--noinput")
    assert "partial" in error["message"]
    named = installation18.result("dbbackup", "-d", "dev", "-o", "mine.dump.zst")
    assert named["name"] == "mine.dump.zst"
    assert installation18.refused("dbbackup", "-d", "dev", "-o", "mine.dump.zst")
    assert installation18.result("dbrestore", "-d", "dev", "-i", "mine.dump.zst", "--noinput")
    assert installation18.refused("dbbackup", "-d", "dev", "-o", "../x", code=2)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("dbbackup", ("--clean", "--output-path")),
        ("dbrestore", ("--passphrase", "--no-drop", "--pg-options")),
    ],
)
def test_help_promises_nothing_that_is_refused(name: str, refused: tuple[str, ...]) -> None:
    """And what is taken of django-dbbackup's options is told in our own words."""
    parser = command_class(name)().create_parser("manage.py", name)
    shown = parser.format_help()
    assert [option for option in refused if option in shown] == []
    theirs = {kwargs["help"] for _, kwargs in command_class(name)().option_list}
    assert [action.dest for action in parser._actions if action.help in theirs] == []


def test_a_bare_migrate_brings_up_both_databases(installation18: Installation) -> None:
    (installation18.home / "control.sqlite3").unlink()
    installation18.run("migrate", "--verbosity=0")
    assert installation18.sql("dev", "SELECT to_regclass('public.accounts_user')") is not None
    assert installation18.sql("dev", "SELECT to_regclass('public.dbops_operation')") is None
    assert installation18.result("operations") == {"operations": []}
    installation18.run("migrate", "--check", "--verbosity=0")


def test_wrong_usage_is_an_object_too_under_json(installation18: Installation) -> None:
    answer = installation18.run("copy_db", "test", "--json", code=2)
    assert answer.json["error"]["code"] == "usage"
    assert "copy_db --help" in answer.json["error"]["hint"]
    assert "usage: manage.py copy_db" in answer.err
