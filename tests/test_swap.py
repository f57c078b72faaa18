"""The only moment anyone notices: short under load, and never neither."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pytest

from dbops.exceptions import LockedError, SwapError
from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.databases import scratch_name
from dbops.postgres.locks import database_lock
from dbops.postgres.params import ConnectionParams
from dbops.postgres.swap import swap_databases
from tests.servers import Server

ROOT = Path(__file__).parents[1]


@pytest.fixture
def pair(server: Server) -> tuple[ConnectionParams, str]:
    """A target that says "old" and an incoming database that says "new"."""
    target = server.create_database()
    incoming = server.create_database(scratch_name(target.database, "incoming", "0" * 12))
    for params, word in ((target, "old"), (incoming, "new")):
        with session(params) as connection:
            execute(connection, f"CREATE TABLE public.word AS SELECT '{word}' AS word")
    return target, incoming.database


def _word(params: ConnectionParams) -> str:
    with session(params) as connection:
        return str(fetch_value(connection, "SELECT word FROM public.word"))


def _drop(server: Server, target: ConnectionParams) -> None:
    for role in ("incoming", "previous"):
        server.drop_database(scratch_name(target.database, role, "0" * 12))
    server.drop_database(target.database)


def test_eighty_clients_are_gone_at_once_and_may_come_back(
    server: Server, pair: tuple[ConnectionParams, str]
) -> None:
    target, incoming = pair
    previous = scratch_name(target.database, "previous", "0" * 12)
    outages = []
    try:
        for round_ in range(3):
            clients = [psycopg2.connect(**target.libpq_keywords()) for _ in range(80)]
            outages.append(
                swap_databases(target, incoming=incoming, target=target.database, previous=previous)
            )
            assert _word(target) == ("new" if round_ % 2 == 0 else "old")
            for client in clients:
                with pytest.raises(psycopg2.Error):
                    client.cursor().execute("SELECT 1")
                client.close()
            with session(server.params) as control:  # the displaced one is the next incoming
                execute(control, f'ALTER DATABASE "{previous}" RENAME TO "{incoming}"')
        # The bar is 100 ms on a quiet machine (benchmarks/); here only that it is no second.
        assert statistics.median(outages) < 1000
    finally:
        _drop(server, target)


def test_clients_that_keep_reconnecting_do_not_prevent_it(
    server: Server, pair: tuple[ConnectionParams, str]
) -> None:
    target, incoming = pair
    done = threading.Event()
    seen: set[str] = set()

    def hammer() -> None:
        while not done.is_set():
            try:
                connection = psycopg2.connect(**target.libpq_keywords())
                with connection.cursor() as cursor:
                    cursor.execute("SELECT word FROM public.word")
                    row = cursor.fetchone()
                    seen.add(row[0] if row else "nothing")
                connection.close()
            except psycopg2.OperationalError:
                continue

    threads = [threading.Thread(target=hammer) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        previous = scratch_name(target.database, "previous", "0" * 12)
        swap_databases(target, incoming=incoming, target=target.database, previous=previous)
        assert _word(target) == "new"
    finally:
        done.set()
        for thread in threads:
            thread.join()
        _drop(server, target)
    assert seen <= {"old", "new"}


def test_a_strangers_session_is_named_and_nothing_is_renamed(
    server: Server, pair: tuple[ConnectionParams, str]
) -> None:
    target, incoming = pair
    stranger = server.superuser.with_database(target.database)
    try:
        with session(stranger), pytest.raises(SwapError, match="postgres"):
            swap_databases(target, incoming=incoming, target=target.database, previous="never")
        assert _word(target) == "old"
    finally:
        _drop(server, target)


_SWAPPER = """
import sys
from dbops.postgres.params import ConnectionParams
from dbops.postgres.swap import swap_databases
host, port, user, password, target, incoming, previous = sys.argv[1:]
params = ConnectionParams(target, host, int(port), user, password)
print("go", flush=True)
swap_databases(params, incoming=incoming, target=target, previous=previous)
"""


def test_kill_9_at_any_moment_leaves_old_or_new_and_open(server18: Server) -> None:
    outcomes = set()
    for delay in (0.0, 0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.03, 0.05):
        target = server18.create_database()
        incoming = scratch_name(target.database, "incoming", "0" * 12)
        previous = scratch_name(target.database, "previous", "0" * 12)
        server18.create_database(incoming)
        for params, word in ((target, "old"), (target.with_database(incoming), "new")):
            with session(params) as connection:
                execute(connection, f"CREATE TABLE public.word AS SELECT '{word}' AS word")
        arguments = [target.host, str(target.port), target.user, target.password,
                     target.database, incoming, previous]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-c", _SWAPPER, *arguments], cwd=ROOT, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.2)  # the server notices that its client is gone
        outcomes.add(_word(target))
        _drop(server18, target)
    assert outcomes <= {"old", "new"}


def test_a_lock_goes_with_its_holder(server18: Server) -> None:
    params = server18.params.with_database("whatever")
    with database_lock(params, operation="a" * 12, exclusive=False):
        with database_lock(params, operation="b" * 12, exclusive=False):
            pass
        with (
            pytest.raises(LockedError, match="a" * 12),
            database_lock(params, operation="c" * 12, exclusive=True),
        ):
            pass
    with database_lock(params, operation="d" * 12, exclusive=True) as connection:
        pid = connection.get_backend_pid()
        with session(server18.params) as control:
            execute(control, "SELECT pg_terminate_backend(%s, 5000)", [pid])
        with database_lock(params, operation="e" * 12, exclusive=True):
            pass
