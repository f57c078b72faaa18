"""Checking, resetting, emptying and maintaining databases."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from dbops.kinds.upkeep import migration_gap
from dbops.operations import checkup
from dbops.operations.checkup import CheckRequest, LastBackup, MigrationGap, check_db
from dbops.operations.context import OperationContext
from dbops.postgres import triggers
from dbops.postgres.connection import execute, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.stamp import write_stamp
from tests.installation import Installation

CONTEXT = OperationContext("0123456789ab", actor="dr.mehta")


def checked(
    params: ConnectionParams, environment: str = "dev", **more: Any
) -> dict[str, tuple[bool | None, str]]:
    request = CheckRequest(
        database=params, environment=environment,
        **{"gap": lambda _: MigrationGap([], []), "backup": None, "protected": False} | more,
    )  # fmt: skip
    return {it.name: (it.ok, it.value) for it in check_db(request, CONTEXT).checks}


def test_a_database_that_is_well(empty_database: ConnectionParams) -> None:
    found = checked(empty_database)
    assert {name: ok for name, (ok, _) in found.items()} == dict.fromkeys(checkup._NAMES, True)
    assert found["stamp"][1] == "none yet, and empty"
    assert found["backup"][1] == "none yet"


def test_what_is_not_well(empty_database: ConnectionParams) -> None:
    with session(empty_database) as connection:
        execute(connection, "CREATE TABLE public.t (created_at timestamptz)")
        assert checked(empty_database)["stamp"] == (False, "none, but it holds tables")
        triggers.install(connection, poll=do_not_poll)
        write_stamp(connection, "prod")
        assert checked(empty_database)["stamp"] == (False, "prod, not dev")
        assert checked(empty_database)["triggers"] == (True, "1 installed")
        execute(connection, "ALTER TABLE public.t DISABLE TRIGGER ALL")
        assert checked(empty_database)["triggers"] == (False, "1 disabled")
        gap = MigrationGap(["a.0002"], ["a.0009"])
        ok, told = checked(empty_database, gap=lambda _: gap)["migrations"]
        assert (ok, told) == (False, "0 applied, 1 pending, 1 not in the code: a.0009")
        name = empty_database.database
        execute(connection, f"ALTER DATABASE {name} CONNECTION LIMIT 2")
        assert checked(empty_database)["connections"] == (False, "2 of 2")


def test_the_last_backup(empty_database: ConnectionParams) -> None:
    """A protected environment needs one that is not old; of others it is told."""
    now = datetime.now(UTC)
    fresh = LastBackup(now, "now", False)
    old = LastBackup(now - timedelta(hours=49), "old", False)
    cases: list[tuple[LastBackup | None, bool, bool]] = [
        (None, False, True), (None, True, False), (fresh, True, True), (old, True, False),
        (old, False, True), (LastBackup(now, "now", True), False, False),
    ]  # fmt: skip
    for backup, protected, expected in cases:
        assert checked(empty_database, backup=backup, protected=protected)["backup"][0] is expected


def test_a_server_that_is_down(empty_database: ConnectionParams) -> None:
    """An answer, not a traceback; what could not be looked at says so."""
    down = ConnectionParams("dev", "127.0.0.1", 1, "nobody", "canary")
    found = checked(down)
    assert found["reachable"][0] is False
    assert "canary" not in str(found)
    assert found["stamp"] == (None, "not looked at")
    assert found["backup"] == (True, "none yet")
    absent = checked(empty_database.with_database("no_such"))
    assert absent["reachable"][0] is False
    assert "does not exist" in absent["reachable"][1]


def test_the_migrations_of_the_code() -> None:
    everything = migration_gap([]).pending
    assert "accounts.0001_initial" in everything
    assert migration_gap(everything) == MigrationGap([], [])
    ahead = [*everything, "accounts.0999_later", "gone.0001_initial"]
    assert migration_gap(ahead).unknown == ["accounts.0999_later"]


def test_check_db(installation18: Installation) -> None:
    answer = installation18.run("check_db", "--env", "dev", "--json", code=1).json
    assert answer["error"]["code"] == "not_well"
    checks = {it["name"]: it["ok"] for it in answer["result"]["checks"]}
    assert checks["migrations"] is False
    assert checks["reachable"] is True
    installation18.run("init_db", "--env", "dev")
    assert "✓ migrations" in installation18.run("check_db", "--env", "dev").out
    installation18.variables["DEV_DATABASE_URL"] = "postgresql://a:canary@127.0.0.1:1/dev"
    answer2 = installation18.run("check_db", "--json", code=1)
    assert "canary" not in json.dumps(answer2.json) + answer2.err
    assert [it["ok"] for it in answer2.json["result"]["checks"]] == [False, *[None] * 6, True]
