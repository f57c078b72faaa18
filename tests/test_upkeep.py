"""Checking, resetting, emptying and maintaining databases."""

from __future__ import annotations

import json
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from dbops.exceptions import StatementError
from dbops.kinds.upkeep import migration_gap
from dbops.migrating.migrator import _connected
from dbops.operations import checkup
from dbops.operations.checkup import CheckRequest, LastBackup, MigrationGap, check_db
from dbops.operations.context import OperationContext
from dbops.operations.emptying import EmptyRequest, reset_db
from dbops.operations.inspection import InspectRequest
from dbops.operations.upkeep import MaintainRequest, maintain_db
from dbops.postgres import triggers
from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.databases import scratch_databases
from dbops.postgres.locks import database_lock
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.stamp import write_stamp
from tests.installation import Installation, row_hashes
from tests.servers import Server

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
    everything = migration_gap("dev", []).pending
    assert "accounts.0001_initial" in everything
    assert migration_gap("dev", everything) == MigrationGap([], [])
    ahead = [*everything, "accounts.0999_later", "gone.0001_initial"]
    assert migration_gap("dev", ahead).unknown == ["accounts.0999_later"]


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


# reset_db and drop_all_tables


def _filled(installation: Installation, environment: str = "test") -> dict[str, str]:
    """A database that holds more than tables; its row hashes."""
    installation.result("init_db", "--env", environment)
    database = installation.databases[environment].database
    for statement in (
        "CREATE SCHEMA lab; CREATE TYPE lab.mood AS ENUM ('sad')",
        "CREATE TABLE lab.t AS SELECT g AS id, now() AS created_at FROM generate_series(1, 99) g",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "GRANT USAGE ON SCHEMA lab TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA lab GRANT SELECT ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        f"ALTER DATABASE {database} SET work_mem = '9MB'",
        f"COMMENT ON DATABASE {database} IS 'the test database'",
        "INSERT INTO public.accounts_user (username, password, is_superuser, is_staff, is_active,"
        " first_name, last_name, email, date_joined) VALUES ('nora', '', false, false, true, '',"
        " '', '', now())",
    ):
        installation.sql(environment, statement)
    return installation.hashes(environment)


_ROOMS = """SELECT jsonb_build_array(
    (SELECT jsonb_agg(array[nspname::text, nspacl::text] ORDER BY nspname) FROM pg_namespace
      WHERE nspname !~ '^(pg_|info|skin)'),
    (SELECT jsonb_agg(array[defaclobjtype::text, defaclacl::text] ORDER BY defaclobjtype)
       FROM pg_default_acl),
    (SELECT jsonb_agg(extname ORDER BY extname) FROM pg_extension), current_setting('work_mem'),
    (SELECT shobj_description(oid, 'pg_database') FROM pg_database
      WHERE datname = current_database()))::text"""


def test_reset_db_and_the_way_back(installation: Installation) -> None:
    before = _filled(installation)
    rooms = installation.sql("test", _ROOMS)
    done = installation.run("reset_db", "--env", "test", "--noinput", "--json").json
    result = done["result"]
    assert done["operation"]["kind"] == "reset"
    assert result["tables"] == len([key for key in before if "_seq" not in key])
    assert result["migrations"] > 20
    assert installation.sql("test", "SELECT count(*) FROM public.accounts_user") == 0
    assert installation.sql("test", "SELECT to_regclass('lab.t')") is None
    assert installation.sql("test", _ROOMS) == rooms
    assert installation.run("check_db", "--env", "test")
    [backup] = installation.result("listbackups")["backups"]
    assert backup["name"] == result["saved_as"]
    undone = installation.result("undo_operation", "--noinput")
    assert undone["outage_ms"] < 2000
    assert installation.hashes("test") == before
    # And the undo is undone.
    installation.result("undo_operation", "--noinput")
    assert installation.sql("test", "SELECT count(*) FROM public.accounts_user") == 0


def test_drop_all_tables_and_the_way_back(installation18: Installation) -> None:
    before = _filled(installation18, "dev")
    rooms = installation18.sql("dev", _ROOMS)
    result = installation18.result("drop_all_tables", "--env", "dev", "--noinput")
    assert installation18.hashes("dev") == {}
    assert installation18.sql("dev", "SELECT to_regtype('lab.mood')") is None
    assert installation18.sql("dev", "SELECT to_regproc('public.f')") is None
    assert installation18.sql("dev", "SELECT environment FROM skinspire.stamp") == "dev"
    assert installation18.sql("dev", _ROOMS) == rooms
    assert result["previous"]
    installation18.result("undo_operation", "--noinput")
    assert installation18.hashes("dev") == before


@pytest.mark.parametrize("command", ["reset_db", "drop_all_tables"])
def test_emptying_is_confirmed_and_backed_up(installation18: Installation, command: str) -> None:
    before = _filled(installation18)
    assert installation18.refused(command, "--env", "test")["code"] == "not_confirmed"
    assert installation18.refused(command, "--env", "prod", "--noinput")["code"] == "not_confirmed"
    backups = installation18.home / "backups"
    backups.rmdir() if backups.exists() else None
    backups.write_text("no directory")  # so that the backup fails
    error = installation18.refused(command, "--env", "test", "--noinput")
    assert error["code"] in ("storage", "unforeseen")
    assert installation18.hashes("test") == before
    assert installation18.scratch() == []


def test_a_migration_that_fails_leaves_the_target_as_it_was(
    server: Server, empty_database: ConnectionParams
) -> None:
    with session(empty_database) as connection:
        execute(connection, "CREATE TABLE public.t AS SELECT 1 AS id")
        write_stamp(connection, "dev")
    before = row_hashes(empty_database)
    aside: list[str] = []

    def migrate(database: ConnectionParams) -> None:
        aside.append(database.database)
        with session(database) as connection:
            execute(connection, "CREATE TABLE public.half ()")
        raise StatementError("Migrating dev failed: clinic.0002 cannot be applied")

    request = EmptyRequest(empty_database, "dev", save=lambda: "a backup", migrate=migrate)
    with pytest.raises(StatementError, match=r"clinic\.0002"):
        reset_db(request, CONTEXT)
    assert row_hashes(empty_database) == before
    with session(server.params) as control:
        assert aside[0] not in scratch_databases(control)


def test_django_is_led_aside_in_this_thread_alone(
    empty_database: ConnectionParams, django_db_blocker: Any
) -> None:
    elsewhere: list[Any] = []
    before = {alias: connections[alias] for alias in ("default", "dev", "test")}

    def look() -> None:
        elsewhere.append(connections["dev"].settings_dict["NAME"])

    def migrate() -> None:
        with _connected("dev", empty_database):
            for alias in ("default", "dev"):
                assert connections[alias].settings_dict["NAME"] == empty_database.database
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()

    with django_db_blocker.unblock():
        migrate()
    assert elsewhere != [empty_database.database]
    assert {alias: connections[alias] for alias in before} == before


# maintain_db


def maintained(params: ConnectionParams, *, dry_run: bool = False) -> dict[str, tuple[str, str]]:
    request = MaintainRequest(InspectRequest("dev", params), dry_run)
    found = maintain_db(request, OperationContext("0123456789ab")).actions
    return {it.object: (it.verb, it.state) for it in found}


def _make(params: ConnectionParams, *statements: str) -> None:
    """Each in autocommit; the counters are written out before it returns."""
    with session(params) as connection:
        for statement in statements:
            execute(connection, statement)
        execute(connection, "SELECT pg_stat_force_next_flush()")
        execute(connection, "SELECT 1")


def test_what_is_due_is_done_and_nothing_else(
    server: Server, empty_database: ConnectionParams
) -> None:
    off = "WITH (autovacuum_enabled = off)"
    _make(
        empty_database,
        f"CREATE TABLE public.fresh {off} AS SELECT g AS id FROM generate_series(1, 100) g",
        f"CREATE TABLE public.dead {off} AS SELECT g AS id FROM generate_series(1, 1000) g",
        f"CREATE TABLE public.well {off} AS SELECT g AS id FROM generate_series(1, 1000) g",
        f"CREATE TABLE public.empty (id int) {off}",
        f'CREATE TABLE public."o.d""d" (id int) {off}',
    )
    _make(empty_database, "VACUUM ANALYZE public.dead, public.well")
    _make(empty_database, "DELETE FROM public.dead WHERE id <= 260",
          "DELETE FROM public.well WHERE id <= 90",
          'INSERT INTO public."o.d""d" VALUES (1)')  # fmt: skip
    with session(empty_database) as connection:
        write_stamp(connection, "dev")
    due = maintained(empty_database, dry_run=True)
    assert due.pop("skinspire.stamp", None) in (None, ("analyse", "due"))
    assert due == {
        "public.dead": ("vacuum", "due"), "public.fresh": ("analyse", "due"),
        'public."o.d""d"': ("analyse", "due"),
    }  # fmt: skip
    assert maintained(empty_database, dry_run=True).keys() >= due.keys()
    done = maintained(empty_database)
    assert {state for _, state in done.values()} == {"done"}
    assert due.keys() <= done.keys()
    assert maintained(empty_database) == {}


def test_invalid_and_bloated_indexes(server: Server, empty_database: ConnectionParams) -> None:
    _make(
        empty_database,
        "CREATE TABLE public.t AS SELECT g AS id, 1 AS one FROM generate_series(1, 600000) g",
        "CREATE INDEX slack ON public.t (id)", "CREATE INDEX broken ON public.t (one)",
        "DELETE FROM public.t WHERE id % 20 <> 0", "VACUUM ANALYZE public.t",
    )  # fmt: skip
    with session(empty_database) as connection:
        write_stamp(connection, "dev")
        with pytest.raises(StatementError):  # of duplicates; it leaves the index behind, invalid
            execute(connection, "CREATE UNIQUE INDEX CONCURRENTLY twice ON public.t (one)")
    with session(server.superuser.with_database(empty_database.database)) as connection:
        execute(
            connection,
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.broken'::regclass",
        )
    size = "SELECT pg_relation_size('public.slack')"
    with session(empty_database) as connection:
        before = fetch_value(connection, size)
    done = maintained(empty_database)
    assert done["public.slack"] == ("reindex", "done")
    assert done["public.broken"] == ("reindex", "done")
    assert done["public.twice"] == ("reindex", "skipped")  # it cannot be unique
    with session(empty_database) as connection:
        assert fetch_value(connection, size) < before / 10
        left = (
            "SELECT string_agg(indexrelid::regclass::text, ',') FROM pg_index WHERE NOT indisvalid"
        )
        assert fetch_value(connection, left) == "public.twice"
        execute(connection, "DROP INDEX public.twice")
    assert not any(verb == "reindex" for verb, _ in maintained(empty_database).values())


def test_what_belongs_to_others_is_told(server: Server) -> None:
    params = server.create_database()
    owner = server.superuser.with_database(params.database)
    try:
        _make(owner, f"ALTER DATABASE {params.database} OWNER TO {owner.user}",
              "CREATE TABLE public.t AS SELECT 1 AS id")  # fmt: skip
        request = MaintainRequest(InspectRequest("dev", params), dry_run=True)
        [action] = maintain_db(request, CONTEXT).actions
        assert (action.state, action.why_not) == ("skipped", f"it belongs to {owner.user}")
    finally:
        server.drop_database(params.database)


def test_ctrl_c_leaves_no_half_built_index(installation18: Installation) -> None:
    """It also works beside a backup, and not while the database is replaced."""
    params = installation18.databases["test"]
    installation18.result("init_db", "--env", "test")
    _make(params, "CREATE TABLE public.t AS SELECT g AS id FROM generate_series(1, 1000) g",
          "CREATE INDEX broken ON public.t (id)", "ANALYZE")  # fmt: skip
    with session(installation18.server.superuser.with_database(params.database)) as connection:
        execute(
            connection,
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.broken'::regclass",
        )
    half_built = "SELECT count(*) FROM pg_class WHERE relname ~ '_ccnew'"
    with session(params) as other, session(params) as looking:
        # A snapshot that REINDEX waits for; it holds no lock on the table.
        execute(other, "BEGIN ISOLATION LEVEL REPEATABLE READ")
        execute(other, "SELECT count(*) FROM public.django_migrations")
        process = installation18.start("maintain_db", "--env", "test")
        deadline = time.monotonic() + 30
        while not fetch_value(looking, half_built) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert fetch_value(looking, half_built) == 0
    with database_lock(params, operation="0" * 12, exclusive=False):
        actions = installation18.result("maintain_db", "--env", "test")["actions"]
        assert [it["state"] for it in actions if it["object"] == "public.broken"] == ["done"]
    with database_lock(params, operation="0" * 12, exclusive=True):
        assert installation18.refused("maintain_db", "--env", "test")["code"] == "locked"
    assert "Nothing is due" in installation18.run("maintain_db", "--env", "test", "--dry-run").out
