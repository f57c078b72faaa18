"""``test_db_features``: what a stranger runs on his own server before he trusts us with it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from dbops.features import scratch
from dbops.features.feature import CATEGORIES, FEATURES, Feature, try_out
from dbops.postgres.connection import fetch_all, session
from dbops.postgres.params import ConnectionParams
from skinspire.databases import database_from_url
from tests.installation import Installation
from tests.servers import Server


class Rehearsal:
    """A running ``test_db_features``, and the databases that are its own."""

    def __init__(self, installation: Installation, tmp: Path, *arguments: str) -> None:
        installation.variables["TMPDIR"] = str(tmp)
        self._params = installation.server.params
        self.process = installation.start("test_db_features", *arguments)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        # The first line says that a feature was tried: by then everything is there.
        stream = self.process.stderr if "--json" in arguments else self.process.stdout
        stream.readline()
        (self.home,) = tmp.glob("skinspire-features-*")
        self._id = self.home.name.split("-")[2]
        assert self.databases()

    def databases(self) -> list[str]:
        with session(self._params) as connection:
            found = fetch_all(connection, "SELECT datname FROM pg_database")
        return [name for (name,) in found if f"_features_{self._id}_" in name]


def test_every_category_is_tried_directly_and_by_command() -> None:
    from dbops.features import rehearse  # noqa: F401  (registers them)

    for category in CATEGORIES:
        ways = {it.how for it in FEATURES if it.category == category}
        assert ways == {"direct", "command"}, category


def test_all_features_hold_and_nothing_is_left(installation: Installation, tmp_path: Path) -> None:
    """On PostgreSQL 15 and 18, with rows in the environments that nobody may touch."""
    for name in ("dev", "test", "prod"):
        installation.sql(name, f"CREATE TABLE public.kept AS SELECT '{name}' AS environment")
    before = [installation.hashes(name) for name in ("dev", "test", "prod")]
    rehearsal = Rehearsal(installation, tmp_path, "--all", "--json")
    out, err = rehearsal.process.communicate(timeout=280)
    assert rehearsal.process.returncode == 0, out + err
    result = json.loads(out)["result"]
    assert result["failed"] == 0
    assert result["passed"] == len(result["tests"]) >= 30
    assert {it["category"] for it in result["tests"]} == set(CATEGORIES)
    assert [installation.hashes(name) for name in ("dev", "test", "prod")] == before
    assert rehearsal.databases() == []
    assert not rehearsal.home.exists()
    assert Path(result["log"]).read_text().count("passed") == result["passed"]


def test_what_fails_is_told_with_exit_code_1(installation18: Installation) -> None:
    installation18.variables["SKINSPIRE_PG_BIN"] = "/nowhere"
    answer = installation18.run("test_db_features", "--config", "--json", code=1)
    assert answer.json["error"]["code"] == "feature_failed"
    failed = [it for it in answer.json["result"]["tests"] if not it["passed"]]
    assert [it["title"] for it in failed] == [
        "pg_dump and pg_restore of the server's own version are found"
    ]
    assert "pg_dump was not found" in failed[0]["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing(
    installation18: Installation, tmp_path: Path, number: int, code: int
) -> None:
    rehearsal = Rehearsal(installation18, tmp_path, "--copy")
    os.kill(rehearsal.process.pid, number)
    rehearsal.process.communicate(timeout=60)
    assert rehearsal.process.returncode == code
    assert rehearsal.databases() == []
    assert not rehearsal.home.exists()


def test_what_a_killed_one_left_is_cleared_by_the_next(
    installation18: Installation, tmp_path: Path
) -> None:
    rehearsal = Rehearsal(installation18, tmp_path, "--copy")
    os.killpg(rehearsal.process.pid, signal.SIGKILL)
    rehearsal.process.communicate()
    assert rehearsal.databases()
    installation18.run("test_db_features", "--inspect-db", "--json", code=None)
    assert rehearsal.databases() == []
    assert not rehearsal.home.exists()


def test_a_role_that_may_not_create_databases_hears_it(
    installation18: Installation, server18: Server
) -> None:
    with session(server18.superuser) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE ROLE features_poor LOGIN PASSWORD 'poor'")
    try:
        params = installation18.databases["dev"]
        url = f"postgresql://features_poor:poor@{params.host}:{params.port}/{params.database}"
        installation18.variables["DEV_DATABASE_URL"] = url
        error = installation18.refused("test_db_features", "--config")
        assert error["code"] == "privilege"
        assert "CREATEDB" in error["hint"]
    finally:
        with session(server18.superuser) as connection, connection.cursor() as cursor:
            cursor.execute("DROP ROLE features_poor")


@pytest.mark.parametrize(
    "params",
    [
        ConnectionParams("d", "/var/run/postgresql", 5433, "u", "p@/?"),
        ConnectionParams("d", "::1", 5433, "u"),
        ConnectionParams("d", "", 5432),
        ConnectionParams("d", "h", 5432, "u", "p", {"options": "-c search_path=a,b -c x=%1"}),
    ],
    ids=["sockets", "IPv6", "defaults", "options"],
)
def test_the_scratch_databases_are_where_the_environments_server_is(
    params: ConnectionParams,
) -> None:
    found = database_from_url("X", scratch._url(params))
    assert (found["HOST"], found["PORT"], found["NAME"]) == (params.host, str(params.port), "d")
    assert (found["USER"], found["PASSWORD"]) == (params.user, params.password)
    assert found["OPTIONS"] == params.extra


def test_what_a_feature_raises_is_why_it_failed() -> None:
    def attempt(_: scratch.Scratch) -> None:
        raise ValueError("odd")

    tried = try_out(Feature("copy", "title", "direct", attempt), None)  # type: ignore[arg-type]
    assert not tried.passed
    assert "odd" in tried.message
