"""What the tests of faults of copies share: two databases, of which one can be held in the middle
of being copied, and the outcome that every copy which fails must have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil

from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.stamp import write_stamp
from tests.faults import assert_nothing_left, assert_recorded, state, tools_of, wait_for
from tests.installation import Installation
from tests.servers import Server

COPY = ["copy_db", "test", "dev", "--noinput"]
STRATEGIES = ("template", "stream", "dump")
# Where a database is being built, whoever calls it waits while a session of that name is open: a
# look into pg_stat_activity sees the present, whatever snapshot the caller has.
_GATE = """
CREATE FUNCTION public.gate(what text, id integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  place text := pg_catalog.current_database();
  wanted text := 'gate ' || what || ' ' || pg_catalog.split_part(place, '_', 2);
BEGIN
  WHILE place LIKE '%__incoming_%' AND EXISTS (
      SELECT FROM pg_catalog.pg_stat_activity WHERE application_name = wanted) LOOP
    PERFORM pg_catalog.pg_sleep(0.02), pg_catalog.pg_stat_clear_snapshot();
  END LOOP;
  RETURN id;
END $$;
CREATE TABLE public.small (id integer CHECK (public.gate('small', id) = id), name text);
INSERT INTO public.small SELECT g, md5(g::text) FROM generate_series(1, 1000) g;
CREATE TABLE public.indexed AS SELECT g AS id FROM generate_series(1, 100) g;
CREATE INDEX indexed_slowly ON public.indexed (public.gate('indexes', id));
CREATE TABLE public.notes (id serial PRIMARY KEY, note text);
INSERT INTO public.notes (note) VALUES ('new'), ('ä');
"""
# More than all buffers between the two servers take, so that the sender lives while it is held.
_LARGE = """
CREATE TABLE public.large (id integer CHECK (public.gate('large', id) = id), scan text);
ALTER TABLE public.large ALTER scan SET STORAGE EXTERNAL;
INSERT INTO public.large SELECT g, repeat(md5(g::text), 8192) FROM generate_series(1, 100) g;
"""


def make_pair(installation: Installation, *, large: bool = False) -> Installation:
    """test holds some tables, dev another; both bear their stamps."""
    installation.sql("test", _GATE + _LARGE * large)
    installation.sql("dev", "CREATE TABLE public.notes AS SELECT 1 AS id, 'old' AS note")
    stamp(installation, "test", "dev")
    return installation


def stamp(installation: Installation, *environments: str) -> None:
    """What init_db does of which a copy needs."""
    for environment in environments:
        with session(installation.databases[environment]) as connection:
            write_stamp(connection, environment)


def server_of(installation: Installation, environment: str) -> Server:
    """Where its database is."""
    return installation.moved.get(environment, installation.server)


def tag_of(installation: Installation) -> str:
    """What the names of all databases of the installation have in common."""
    return installation.databases["test"].database.split("_")[1]


@contextmanager
def gate(installation: Installation, what: str) -> Iterator[None]:
    """Hold copies at ``large``, ``small`` (rows of that table) or ``indexes``."""
    server, name = server_of(installation, "dev"), f"gate {what} {tag_of(installation)}"
    with session(server.params, application=name):
        yield


@contextmanager
def held(
    installation: Installation, what: str, *options: str
) -> Iterator[tuple[subprocess.Popen[str], ExitStack]]:
    """A copy that waits at a gate; closing the stack lets it go on."""
    with ExitStack() as waiting:
        waiting.enter_context(gate(installation, what))
        process = installation.start(*COPY, *options)
        try:
            wait_until_held(installation, process)
            yield process, waiting
        finally:
            waiting.close()
            if process.poll() is None:
                process.kill()
            process.communicate()


def wait_until_held(installation: Installation, process: subprocess.Popen[str]) -> None:
    """Until a session in the database that is built waits at a gate."""
    with session(server_of(installation, "dev").superuser) as control:
        wait_for(
            lambda: (
                process.poll() is not None
                or fetch_value(
                    control,
                    """SELECT count(*) FROM pg_stat_activity
                    WHERE starts_with(datname, %s) AND wait_event = 'PgSleep'""",
                    [installation.databases["dev"].database + "__incoming_"],
                )
            )
        )
    assert process.poll() is None, process.communicate()


def standing(installation: Installation) -> dict[str, dict[str, str]]:
    """Rows, sequences and catalogue of the target and of the source."""
    return {name: state(installation, name) for name in ("dev", "test")}


def assert_copy_failed(
    installation: Installation,
    before: dict[str, dict[str, str]],
    words: str = "",
    status: str = "failed",
) -> None:
    """STD of the fault list, for a copy."""
    assert standing(installation) == before
    assert_nothing_left(installation)
    assert_recorded(installation, words, status)


def assert_copied(installation: Installation) -> None:
    """The target holds what the source holds, and nothing is left of the way there."""
    assert installation.hashes("dev") == installation.hashes("test")
    assert_nothing_left(installation)


def end_backends(installation: Installation, environment: str, condition: str) -> int:
    """pg_terminate_backend on those sessions of an environment's database; how many."""
    server = server_of(installation, environment)
    with session(server.superuser) as control:
        return int(
            fetch_value(
                control,
                f"""SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = %s AND ({condition})""",
                [installation.databases[environment].database],
            )
        )


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The tools a command has started and that run."""
    found = [*tools_of(process.pid), *tools_of(process.pid, "psql")]
    return [psutil.Process(pid) for pid in found]


def as_superuser(installation: Installation, environment: str, *statements: str) -> None:
    """In an environment's database, by whom the ordinary role has to ask."""
    superuser = server_of(installation, environment).superuser
    database = installation.databases[environment].database
    with session(superuser.with_database(database)) as connection:
        for statement in statements:
            execute(connection, statement)


def send_signal(process: subprocess.Popen[str], number: int) -> None:
    """To the command alone: its children lead groups of their own."""
    os.kill(process.pid, number)
