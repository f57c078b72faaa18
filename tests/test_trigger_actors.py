"""Integer columns that refer to a user take the acting user's id; what else is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbops.exceptions import StatementError
from dbops.postgres import triggers
from dbops.postgres.connection import Connection, execute, fetch_row, fetch_value, session
from dbops.postgres.params import ConnectionParams
from tests.triggering import USERS, act, install


@pytest.fixture
def db(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        execute(connection, "CREATE TABLE public.people (id bigint PRIMARY KEY, name text)")
        execute(connection, "INSERT INTO public.people VALUES (7, 'mehta'), (8, 'rao'), (9, 'das')")
        yield connection


@pytest.mark.parametrize("kind", ["smallint", "integer", "bigint"])
def test_an_id_is_stamped_where_the_column_refers_to_a_user(db: Connection, kind: str) -> None:
    execute(
        db,
        f"""CREATE TABLE public.t (id integer, created_by {kind} REFERENCES public.people,
                updated_by {kind} REFERENCES public.people)""",
    )
    assert install(db, USERS).skipped == ()
    act(db, "mehta", 7)
    row = "INSERT INTO public.t (id) VALUES (1) RETURNING created_by, updated_by"
    assert fetch_row(db, row) == (7, 7)
    act(db, "rao", 8)
    update = "UPDATE public.t SET created_by = 9, updated_by = 9 RETURNING created_by, updated_by"
    assert fetch_row(db, update) == (7, 8)
    given = "INSERT INTO public.t VALUES (2, 9, 9) RETURNING created_by, updated_by"
    assert fetch_row(db, given) == (9, 9)
    assert triggers.status(db, USERS).drift is False


def test_without_an_id_what_is_given_is_kept(db: Connection) -> None:
    columns = "{} integer REFERENCES public.people"
    execute(db, f"CREATE TABLE public.c (id integer, {columns.format('created_by')})")
    execute(db, f"CREATE TABLE public.u (id integer, {columns.format('updated_by')})")
    assert install(db, USERS).triggers == 2
    for table, column in (("c", "created_by"), ("u", "updated_by")):
        act(db, "os user")
        insert = f"INSERT INTO public.{table} VALUES (1, %s) RETURNING {column}"
        assert fetch_value(db, insert, [None]) is None
        assert fetch_value(db, insert, [7]) == 7
    assert fetch_value(db, "UPDATE public.u SET updated_by = 8 RETURNING updated_by") == 8
    act(db, "das", 9)
    assert fetch_value(db, "UPDATE public.u SET id = 2 RETURNING updated_by") == 9
    assert fetch_value(db, "UPDATE public.c SET created_by = 8 WHERE created_by = 7 RETURNING 1")
    assert fetch_value(db, "SELECT created_by FROM public.c WHERE created_by IS NOT NULL") == 7


def test_a_uuid_and_a_name_in_one_table_are_both_stamped(db: Connection) -> None:
    key = "00000000-0000-0000-0000-000000000007"
    execute(db, "DROP TABLE public.people; CREATE TABLE public.people (id uuid PRIMARY KEY)")
    execute(db, "INSERT INTO public.people VALUES (%s)", [key])
    execute(
        db,
        """CREATE TABLE public.t (id integer, created_by uuid REFERENCES public.people,
               updated_by varchar(3))""",
    )
    assert install(db, USERS).triggers == 2
    act(db, "mehta", key)
    row = "INSERT INTO public.t (id) VALUES (1) RETURNING created_by::text, updated_by"
    assert fetch_row(db, row) == (key, "meh")


@pytest.mark.parametrize("action", ["SET NULL", "SET DEFAULT", "CASCADE"])
def test_a_user_who_acts_can_be_deleted_and_leaves_no_reference_to_nobody(
    db: Connection, action: str
) -> None:
    """A trigger that puts a reference back while the server takes it away would break the key."""
    column = f"integer DEFAULT 9 REFERENCES public.people ON DELETE {action}"
    execute(db, f"CREATE TABLE public.t (id integer, created_by {column}, updated_by {column})")
    for name in ("created_by", "updated_by"):
        execute(db, f"CREATE TABLE public.{name} (id integer, {name} {column})")
    install(db, USERS)
    act(db, "mehta", 7)
    execute(db, "INSERT INTO public.t VALUES (1, 7, 7)")
    for name in ("created_by", "updated_by"):
        execute(db, f"INSERT INTO public.{name} VALUES (1, 7)")
    execute(db, "DELETE FROM public.people WHERE id = 7")
    for table, names in (("t", "created_by, updated_by"), ("created_by",) * 2, ("updated_by",) * 2):
        left = fetch_row(db, f"SELECT {names} FROM public.{table}")
        now = {"SET NULL": None, "SET DEFAULT": 9}.get(action, "gone")
        assert left is None if now == "gone" else left == (now,) * len(names.split())


def test_a_reference_that_is_taken_away_by_the_application_stays_away(db: Connection) -> None:
    """As Django does before it deletes a user whom on_delete=SET_NULL lets go."""
    column = "integer REFERENCES public.people DEFERRABLE INITIALLY DEFERRED"
    execute(db, f"CREATE TABLE public.t (id integer, created_by {column}, updated_by {column})")
    install(db, USERS)
    act(db, "mehta", 7)
    execute(db, "INSERT INTO public.t (id) VALUES (1)")
    execute(db, "BEGIN; UPDATE public.t SET created_by = NULL, updated_by = NULL")
    execute(db, "DELETE FROM public.people WHERE id = 7; COMMIT")
    assert fetch_row(db, "SELECT created_by, updated_by FROM public.t") == (None, None)


def test_what_cannot_be_an_actor_is_left_alone_and_told(db: Connection) -> None:
    execute(db, "CREATE TABLE public.rooms (id integer PRIMARY KEY, code text UNIQUE)")
    execute(db, "ALTER TABLE public.people ADD number integer UNIQUE")
    execute(
        db,
        """CREATE TABLE public.a (created_by integer, updated_by text REFERENCES rooms (code));
           CREATE TABLE public.b (created_by integer REFERENCES rooms,
                                  updated_by integer REFERENCES people (number))""".replace(
            "REFERENCES ", "REFERENCES public."
        ),
    )
    result = install(db, USERS)
    assert result.triggers == 0
    assert result.skipped == (
        "public.a: created_by is integer and does not refer to public.people",
        "public.a: updated_by is text and refers to public.rooms",
        "public.b: created_by is integer and does not refer to public.people",
        "public.b: updated_by is integer and does not refer to public.people",
    )
    execute(db, "INSERT INTO public.a VALUES (5, NULL)")
    assert fetch_row(db, "SELECT * FROM public.a") == (5, None)


def test_an_id_that_is_none_is_refused_and_writes_nothing(db: Connection) -> None:
    execute(db, "CREATE TABLE public.t (id integer, updated_by integer REFERENCES public.people)")
    install(db, USERS)
    act(db, "mehta", "7; DROP TABLE public.t")
    with pytest.raises(StatementError, match="invalid input syntax"):
        execute(db, "INSERT INTO public.t (id) VALUES (1)")
    assert fetch_value(db, "SELECT count(*) FROM public.t") == 0
