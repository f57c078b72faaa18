"""Features of configuration: what has to be so before anything else can work."""

from __future__ import annotations

from dataclasses import replace

from dbops.exceptions import ConnectionFailedError
from dbops.features.feature import expect, expect_refused, feature
from dbops.features.scratch import Scratch
from dbops.operations.guards import inspect_endpoint
from dbops.postgres.connection import session
from dbops.postgres.tools import find_tool

_OLDEST = 15


@feature("config", "the server is of a version that is supported", "direct")
def version_is_supported(scratch: Scratch) -> None:
    major = inspect_endpoint(scratch.database("dev"), "dev").server.major
    expect(major >= _OLDEST, f"It is PostgreSQL {major}; {_OLDEST} or newer is needed.")


@feature("config", "pg_dump and pg_restore of the server's own version are found", "direct")
def tools_are_found(scratch: Scratch) -> None:
    major = inspect_endpoint(scratch.database("dev"), "dev").server.major
    for tool in ("pg_dump", "pg_restore"):
        find_tool(tool, major, scratch.pg_bin)


@feature("config", "a wrong password and a closed port are told in one sentence", "direct")
def wrong_addresses_are_refused(scratch: Scratch) -> None:
    params = scratch.database("dev")

    def connect(**wrong: object) -> None:
        with session(replace(params, **wrong)):  # type: ignore[arg-type]
            pass

    expect_refused(ConnectionFailedError, lambda: connect(host="127.0.0.1", port=1))
    expect_refused(ConnectionFailedError, lambda: connect(user="skinspire_nobody"))


@feature("config", "check_db finds nothing wrong with a database that was initialised", "command")
def check_finds_nothing(scratch: Scratch) -> None:
    scratch.empty("dev")
    made = scratch.run("init_db", "--env", "dev")
    expect(made.code == 0, f"init_db failed, {made.told}")
    checked = scratch.run("check_db", "--env", "dev")
    expect(checked.code == 0 and checked.result.get("checks"), f"check_db failed, {checked.told}")


@feature("config", "a setting is shown without its password", "command")
def passwords_are_not_shown(scratch: Scratch) -> None:
    shown = scratch.run("show_db_config")
    password = scratch.server.password
    expect(shown.code == 0, f"show_db_config failed, {shown.told}")
    expect(not password or password not in shown.out + shown.err, "It showed the password.")


@feature("config", "an unknown environment is refused", "command")
def unknown_environment_is_refused(scratch: Scratch) -> None:
    answer = scratch.run("listbackups", "-d", "staging")
    expect(answer.code in (1, 2) and answer.error.get("message"), f"It was not, {answer.told}")


@feature("config", "a database of another environment is refused by its stamp", "command")
def stamp_is_respected(scratch: Scratch) -> None:
    scratch.fill("dev")
    scratch.sql("dev", "UPDATE skinspire.stamp SET environment = 'prod'")
    answer = scratch.run("apply_triggers", "--env", "dev")
    scratch.fill("dev")
    expect(answer.error.get("code") == "stamp_mismatch", f"It was not, {answer.told}")
