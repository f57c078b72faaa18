"""Triggers on databases that nobody made for them: pagila, and the sample clinic."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dbops.postgres import triggers
from dbops.postgres.connection import fetch_value, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.tools import find_tool
from dbops.postgres.triggers import HistoryRule, Wishes
from dbops.postgres.triggers.trial import fire_all
from tests.installation import REPOSITORY, row_hashes
from tests.servers import Server
from tests.triggering import catalogue, definitions, install

WISHES = Wishes(history=(HistoryRule("*"),))


def _load(tool: str, server: Server, params: ConnectionParams, *arguments: str) -> None:
    subprocess.run(
        [find_tool(tool, server.major), "-d", params.dbname_argument, *arguments],
        env={**params.libpq_environment(), "PGPASSWORD": params.password},
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(params=["pagila", "clinic"])
def given(
    request: pytest.FixtureRequest, server: Server, shared_data: Path
) -> Iterator[ConnectionParams]:
    name = server.create_database().database
    params = server.superuser.with_database(name)
    loads: dict[str, Callable[[], None]] = {
        "pagila": lambda: _load(
            "pg_restore", server, params, "--no-owner", "--no-privileges",
            str(shared_data / "pagila/pagila.dump"),
        ),
        "clinic": lambda: _load(
            "psql", server, params, "-qX", "-v", "ON_ERROR_STOP=1", "-f",
            str(REPOSITORY / "dbops/sample/clinic.sql"),
        ),
    }  # fmt: skip
    loads[request.param]()
    yield params
    server.drop_database(name)


def test_everything_is_served_fired_and_taken_off_again(given: ConnectionParams) -> None:
    with session(given) as connection:
        before, rows = definitions(connection), row_hashes(given)
        result = install(connection, WISHES)
        assert result.tables > 8
        installed = catalogue(connection)
        assert install(connection, WISHES).statements == ()
        assert catalogue(connection) == installed
        trials = fire_all(
            connection, WISHES, poll=do_not_poll, step=lambda *_: None
        )  # fmt: skip
        assert [it for it in trials if it.outcome == "failed"] == []
        untested = [it for it in trials if it.outcome == "untested"]
        assert len(untested) < len(trials) / 4, untested
        assert row_hashes(given) == rows
        assert not triggers.status(connection, WISHES).drift
        triggers.remove(connection, poll=do_not_poll)
        assert definitions(connection) == before
        assert fetch_value(connection, "SELECT to_regclass('skinspire.row_history')") is None
