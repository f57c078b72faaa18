"""Who acts, as the database hears it: per transaction, behind a pool, and from a command line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg2 import sql

from dbops.postgres import triggers
from dbops.postgres.connection import execute, fetch_all, fetch_value, session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from skinspire.acting import NOBODY, Actor, acting, acting_as, become, can_write
from tests.installation import Installation
from tests.pgbouncer import pgbouncer
from tests.servers import Server

NORA, OMAR = Actor("nora", "7"), Actor("omar", "8")
ODD = Actor("o'dd \\ 100% %s %(x)s \"; --", "9")
TABLE = """CREATE TABLE public.note (id int GENERATED ALWAYS AS IDENTITY, what text,
                                     created_by text, updated_by text)"""
INSERT = "INSERT INTO note (what) VALUES (%s) RETURNING created_by"


@pytest.fixture
def notes(server18: Server) -> Iterator[ConnectionParams]:
    """A database with one table that has the columns of acting users."""
    params = server18.create_database()
    with session(params) as connection:
        execute(connection, TABLE)
        triggers.install(connection, poll=do_not_poll)
    yield params
    server18.drop_database(params.database)


@contextmanager
def django_connection(params: ConnectionParams, alias: str) -> Iterator[DatabaseWrapper]:
    """A connection as Django makes them, among the others of this thread."""
    configured = connections["default"].settings_dict | {
        "NAME": params.database, "HOST": params.host, "PORT": str(params.port),
        "USER": params.user, "PASSWORD": params.password,
    }  # fmt: skip
    made = DatabaseWrapper(configured, alias)
    made.inc_thread_sharing()
    connections.settings[alias] = configured
    connections[alias] = made
    try:
        yield made
    finally:
        made.close()
        del connections[alias]
        del connections.settings[alias]


@pytest.fixture
def db(notes: ConnectionParams, django_db_blocker: Any) -> Iterator[DatabaseWrapper]:
    with django_db_blocker.unblock(), django_connection(notes, "notes") as made:
        yield made


def run(db: DatabaseWrapper, statement: Any, params: Any = None) -> Any:
    """The first value, where there is one."""
    with db.cursor() as cursor:
        cursor.execute(statement, params)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def told(db: DatabaseWrapper) -> tuple[str, str]:
    """The settings, read past the wrapper."""
    with db.connection.cursor() as cursor:
        cursor.execute(
            """SELECT current_setting('skinspire.actor', true),
                      current_setting('skinspire.actor_id', true)"""
        )
        name, key = cursor.fetchone()
        return name or "", key or ""


def role(db: DatabaseWrapper) -> str:
    return str(db.settings_dict["USER"])


# Outside transactions


@pytest.mark.parametrize("actor", [NORA, ODD])
@pytest.mark.parametrize("params", [None, ["50%"], {"what": "50%"}])
def test_a_statement_of_its_own_bears_the_actor_and_nothing_stays(
    db: DatabaseWrapper, actor: Actor, params: Any
) -> None:
    value = {list: "%s", dict: "%(what)s"}.get(type(params), "'50%'")
    with acting_as(actor):
        statement = f"INSERT INTO note (what) VALUES ({value}) RETURNING created_by || '|' || what"
        assert run(db, statement, params) == f"{actor.name}|50%"
        assert told(db) == ("", "")
    assert run(db, INSERT, ["after"]) == role(db)


def test_counts_several_parameters_and_composed_statements_stay_what_they_are(
    db: DatabaseWrapper,
) -> None:
    with acting_as(ODD), db.cursor() as cursor:
        cursor.executemany("INSERT INTO note (what) VALUES (%s)", [["a"], ["b%"], ["c"]])
        assert cursor.rowcount == 3
        cursor.execute("/* which */ -- rows\n UPDATE note SET what = what || '%'")
        assert cursor.rowcount == 3
        composed = sql.SQL("DELETE FROM {} WHERE what = %s").format(sql.Identifier("note"))
        cursor.execute(composed, ["a%"])
        assert cursor.rowcount == 1
    assert run(db, "SELECT count(*) FROM note WHERE updated_by = %s", [ODD.name]) == 2


def test_a_statement_that_fails_leaves_nothing_and_the_next_one_works(db: DatabaseWrapper) -> None:
    with acting_as(NORA):
        with pytest.raises(DatabaseError):
            run(db, "INSERT INTO note (what) VALUES (1 / 0)")
        assert told(db) == ("", "")
        assert run(db, INSERT, ["next"]) == "nora"


def test_a_select_that_calls_a_function_bears_the_actor(db: DatabaseWrapper) -> None:
    run(
        db,
        """CREATE FUNCTION add_note(text) RETURNS text LANGUAGE sql AS
           'INSERT INTO note (what) VALUES ($1) RETURNING created_by'""",
    )
    with acting_as(NORA):
        assert run(db, "SELECT add_note(%s)", ["x"]) == "nora"


def test_what_cannot_run_in_a_transaction_still_runs(db: DatabaseWrapper) -> None:
    run(
        db,
        """CREATE PROCEDURE by_portions() LANGUAGE plpgsql AS
           'BEGIN INSERT INTO note (what) VALUES (1); COMMIT; END'""",
    )
    with acting_as(NORA):
        run(db, "VACUUM note")
        run(db, "CREATE INDEX CONCURRENTLY ON note (what)")
        run(db, "CALL by_portions()")
        run(db, "DO 'BEGIN INSERT INTO note (what) VALUES (2); COMMIT; END'")
        with db.chunked_cursor() as cursor:  # a cursor of the server
            cursor.execute("SELECT length(what) FROM note")
            assert len(cursor.fetchall()) == 2
    assert run(db, "SELECT DISTINCT created_by FROM note") == role(db)


@pytest.mark.parametrize(
    ("statement", "writes"),
    [
        ('SELECT "a"."id", COUNT(*) FROM "a" WHERE "a"."id" IN (1) AND (NOT EXISTS (SELECT 1))', 0),
        ('(SELECT "id" FROM "a") UNION (SELECT "id" FROM "b")', 0),
        ("SELECT public.f(1)", 1), ('SELECT "odd name" (1)', 1), ("VALUES (f(1))", 1),
        ("/* x */ with x as (delete from a returning 1) select * from x", 1),
        ("MERGE INTO a USING b ON true", 1), ("copy a to stdout", 1), ("EXECUTE prepared", 1),
        ("SELECT 1; insert into a values (1)", 1), ("DO $$ BEGIN DELETE; DELETE FROM a; END $$", 0),
        ("SAVEPOINT x", 0), ("DECLARE c CURSOR FOR SELECT f(1)", 0), ("", 0), ("-- nothing", 0),
    ],
)  # fmt: skip
def test_what_can_write(statement: str, writes: int) -> None:
    assert can_write(statement) == bool(writes)


# In transactions


def test_a_transaction_bears_the_actor_from_its_first_statement_to_its_end(
    db: DatabaseWrapper,
) -> None:
    with acting_as(NORA):
        with transaction.atomic(using="notes"):
            assert run(db, INSERT, ["first"]) == "nora"
            assert told(db) == ("nora", "7")
        assert told(db) == ("", "")
        with suppress(ZeroDivisionError), transaction.atomic(using="notes"):
            run(db, INSERT, ["undone"])
            raise ZeroDivisionError
        assert told(db) == ("", "")


def test_the_first_statement_may_still_choose_the_isolation(db: DatabaseWrapper) -> None:
    with acting_as(NORA), transaction.atomic(using="notes"):
        run(db, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert run(db, INSERT, ["x"]) == "nora"


def test_whoever_becomes_known_in_mid_transaction_is_told_at_once(db: DatabaseWrapper) -> None:
    with acting_as(NOBODY):
        with transaction.atomic(using="notes"):
            assert run(db, INSERT, ["before"]) == role(db)
            become(NORA)
            assert told(db) == ("nora", "7")
            assert run(db, INSERT, ["after"]) == "nora"
            with acting_as(OMAR):
                assert told(db) == ("omar", "8")
            assert told(db) == ("nora", "7")
        assert acting() == NORA
    assert acting() is None


def test_savepoints_rolled_back_do_not_take_the_actor_along(db: DatabaseWrapper) -> None:
    with acting_as(NORA), transaction.atomic(using="notes"):
        with suppress(DatabaseError), transaction.atomic(using="notes"):
            become(OMAR)
            assert run(db, INSERT, ["inner"]) == "omar"
            run(db, "SELECT 1 / 0")
        assert run(db, INSERT, ["outer"]) == "omar"
        with transaction.atomic(using="notes"):
            become(NORA)
        assert run(db, INSERT, ["released"]) == "nora"


@pytest.mark.parametrize(
    "back",
    [
        sql.SQL("ROLLBACK TO SAVEPOINT by_hand"), b"ROLLBACK TO by_hand",
        "/* x */ ROLLBACK TO SAVEPOINT by_hand", "SELECT 1; ROLLBACK TO SAVEPOINT by_hand",
    ],
)  # fmt: skip
def test_savepoints_rolled_back_by_hand_do_not_bring_back_another_name(
    db: DatabaseWrapper, back: Any
) -> None:
    with acting_as(NORA), transaction.atomic(using="notes"):
        run(db, "SAVEPOINT by_hand")
        become(OMAR)
        run(db, back)
        assert run(db, INSERT, ["after"]) == "omar"


def test_a_statement_in_bytes_bears_the_actor(db: DatabaseWrapper) -> None:
    with acting_as(NORA):
        statement = "INSERT INTO note (what) VALUES ('über') RETURNING created_by || what"
        assert run(db, statement.encode()) == "noraüber"


def test_who_has_ended_acting_does_not_come_back_with_a_savepoint(db: DatabaseWrapper) -> None:
    with transaction.atomic(using="notes"):
        naming = ExitStack()
        naming.enter_context(acting_as(NORA))
        assert run(db, INSERT, ["before the savepoint"]) == "nora"
        with suppress(DatabaseError), transaction.atomic(using="notes"):
            naming.close()
            run(db, "SELECT 1 / 0")
        assert run(db, INSERT, ["after"]) == role(db)


def test_a_transaction_begun_by_hand_bears_the_actor(db: DatabaseWrapper) -> None:
    with acting_as(NORA):
        run(db, "BEGIN")
        assert run(db, INSERT, ["x"]) == "nora"
        run(db, "COMMIT AND CHAIN")
        assert run(db, INSERT, ["y"]) == "nora"
        run(db, "COMMIT")
        assert told(db) == ("", "")


def test_nobody_is_told_where_nobody_was_named(db: DatabaseWrapper) -> None:
    run(db, "SELECT set_config('skinspire.actor', 'left by a script', false)")
    with acting_as(NOBODY):
        assert run(db, INSERT, ["x"]) == role(db)
        with transaction.atomic(using="notes"):
            assert run(db, INSERT, ["x"]) == role(db)


def test_each_thread_has_an_actor_of_its_own(db: DatabaseWrapper) -> None:
    heard: list[Actor | None] = []
    with acting_as(NORA):
        thread = threading.Thread(target=lambda: heard.append(acting()))
        thread.start()
        thread.join()
    assert heard == [None]


def test_a_connection_that_was_lost_is_told_again(db: DatabaseWrapper) -> None:
    with acting_as(NORA):
        assert run(db, INSERT, ["x"]) == "nora"
        db.close()
        with transaction.atomic(using="notes"):
            assert run(db, INSERT, ["x"]) == "nora"
    assert sum("Teller" in type(it).__name__ for it in db.execute_wrappers) == 1


# Behind a pool


@pytest.fixture
def pool(server18: Server, notes: ConnectionParams) -> Iterator[ConnectionParams]:
    """The same database by a pooler, which has one connection to the server."""
    with pgbouncer(server18, size=1) as port:
        yield replace(notes, port=port)


def test_two_users_over_one_server_connection_never_get_each_others_name(
    pool: ConnectionParams, notes: ConnectionParams, django_db_blocker: Any
) -> None:
    """Interleaved statement by statement; the pool has one connection to the server."""
    with (
        django_db_blocker.unblock(),
        django_connection(pool, "one") as one,
        django_connection(pool, "two") as two,
    ):
        for _ in range(5):
            with acting_as(NORA):
                assert run(one, INSERT, ["autocommit"]) == "nora"
                first = run(one, "SELECT pg_backend_pid()")
            with acting_as(OMAR):
                assert run(two, INSERT, ["autocommit"]) == "omar"
                assert run(two, "SELECT pg_backend_pid()") == first
            with acting_as(NORA), transaction.atomic(using="one"):
                assert run(one, INSERT, ["atomic"]) == "nora"
            assert run(two, INSERT, ["nobody"]) == role(two)
            assert run(one, INSERT, ["nobody"]) == role(one)
    with session(notes) as connection:
        found = fetch_all(
            connection, "SELECT DISTINCT what, created_by FROM public.note ORDER BY 1, 2"
        )
    assert found == [
        ("atomic", "nora"), ("autocommit", "nora"), ("autocommit", "omar"), ("nobody", notes.user)
    ]  # fmt: skip


def test_users_at_the_same_time_never_get_each_others_name(
    pool: ConnectionParams, notes: ConnectionParams, django_db_blocker: Any
) -> None:
    """Four threads, one connection to the server: each waits its turn between transactions."""
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with acting_as(Actor(name)), django_connection(pool, name) as mine:
                for _ in range(20):
                    with transaction.atomic(using=name):
                        run(mine, "INSERT INTO note (what) VALUES (%s)", [name])
                        run(mine, "UPDATE note SET what = what WHERE what = %s", [name])
                    run(mine, "INSERT INTO note (what) VALUES (%s)", [name])
        except BaseException as error:
            failures.append(error)

    with django_db_blocker.unblock():
        threads = [threading.Thread(target=work, args=[f"user{n}"]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    with session(notes) as connection:
        wrong = "SELECT count(*) FROM public.note WHERE what <> created_by OR what <> updated_by"
        assert fetch_value(connection, "SELECT count(*) FROM public.note") == 160
        assert fetch_value(connection, wrong) == 0


# Past the application, and from a command line


def test_direct_sql_shows_the_database_role(notes: ConnectionParams) -> None:
    with session(notes) as connection:
        insert = "INSERT INTO public.note (what) VALUES ('x') RETURNING created_by"
        assert fetch_value(connection, insert) == notes.user


def test_a_command_acts_as_the_account_of_the_operating_system(
    installation18: Installation,
) -> None:
    made = installation18
    made.result("init_db", "--env", "dev")
    made.sql("dev", TABLE)
    operation = made.run("apply_triggers", "--actor", "nora", "--json").json["operation"]
    account = operation["actor"].removeprefix("nora (by ").removesuffix(")")
    assert operation["actor"] == f"nora (by {account})"
    code = (
        "from django.db import connection as c; "
        "c.cursor().execute('INSERT INTO note (what) VALUES (1)')"
    )
    made.run("shell", "-v0", "-c", code)
    assert made.sql("dev", "SELECT created_by FROM public.note") == account


@pytest.mark.parametrize("name", ["", "x" * 61, "root (by root)", "two\nlines", "\u202etoor"])
def test_a_name_that_could_pass_for_more_is_refused(name: str) -> None:
    from argparse import ArgumentTypeError

    from dbops.management.operation_command import _name

    with pytest.raises(ArgumentTypeError, match="without parentheses"):
        _name(name)
