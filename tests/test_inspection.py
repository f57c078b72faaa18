"""What ``inspect_db`` shows: of pagila, of the sample clinic, under names of every kind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from dbops.exceptions import NotFoundError, StampError, StatementError
from dbops.management.inspection_text import show_anatomy
from dbops.operations.anatomy import Anatomy, Wish, inspect_database
from dbops.operations.context import OperationContext
from dbops.operations.inspection import InspectRequest
from dbops.postgres import triggers
from dbops.postgres.connection import execute, session
from dbops.postgres.names import near, visible
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.stamp import write_stamp
from dbops.postgres.tools import find_tool
from tests.installation import REPOSITORY, Installation
from tests.servers import Server
from tests.test_triggers import HOSTILE_NAMES


@pytest.fixture(scope="module")
def pagila(server: Server, shared_data: Path) -> Iterator[ConnectionParams]:
    params = server.create_database()
    subprocess.run(
        [find_tool("pg_restore", server.major), "--no-owner", "--no-privileges",
         "-d", params.dbname_argument, shared_data / "pagila/pagila.dump"],
        env={**params.libpq_environment(), "PGPASSWORD": params.password}, check=True,
    )  # fmt: skip
    with session(params) as connection:
        write_stamp(connection, "dev")
        execute(connection, "ANALYZE")
    yield params
    server.drop_database(params.database)


@pytest.fixture(scope="module")
def clinic(server: Server) -> Iterator[ConnectionParams]:
    params = server.create_database()
    with session(params) as connection:
        execute(connection, (REPOSITORY / "dbops/sample/clinic.sql").read_text())
        triggers.install(connection, poll=do_not_poll)
        write_stamp(connection, "dev")
    yield params
    server.drop_database(params.database)


def look(params: ConnectionParams, environment: str = "dev", **wish: Any) -> Anatomy:
    return inspect_database(InspectRequest(environment, params), Wish(**wish), OperationContext(""))


def test_the_overview(pagila: ConnectionParams, server: Server) -> None:
    found = look(pagila).to_json()
    assert found["version"].startswith(str(server.major))
    assert (found["stamp"], found["encoding"], found["unseen"]) == ("dev", "UTF8", [])
    assert found["size"] > 5_000_000
    assert 1 <= found["connections"] <= found["server_connections"] <= found["server_limit"]
    [public] = [it for it in found["schemas"] if it["name"] == "public"]
    assert (public["tables"], public["views"]) == (21, 7)
    assert public["functions"] == 10
    assert found["largest"][0]["name"] in ("rental", "film")
    assert found["largest"] == sorted(
        found["largest"], key=lambda it: -it["size"] - it["index_size"]
    )
    assert len(found["largest"]) == 10
    assert set(found["triggers"]) == {"installed", "outdated", "disabled", "missing", "foreign"}


def test_tables(pagila: ConnectionParams) -> None:
    rows = {it.name: it for it in look(pagila, tables=True).tables or ()}
    rental = rows["rental"]
    assert (rental.rows, rental.indexes, rental.invalid_indexes, rental.kind) == (
        16044, 3, 0, "table",
    )  # fmt: skip
    assert rental.triggers == 1
    with session(pagila) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('public.rental')")
        [(exact,)] = cursor.fetchall()
    # Free space and visibility maps are not in the estimate.
    assert 0.8 * exact < rental.total <= exact
    assert rental.last_analyze is not None
    assert rental.bloat is not None
    assert rental.bloat < 0.3 * rental.total
    assert {it.name for it in look(pagila, tables=True, table="film").tables or ()} == {"film"}


def test_one_table(pagila: ConnectionParams) -> None:
    found = look(pagila, table="film").to_json()
    assert (found["table"]["schema"], found["table"]["rows"]) == ("public", 1000)
    columns = {it["name"]: it for it in found["columns"]}
    assert next(iter(columns)) == "film_id"
    assert columns["title"] == {
        "name": "title", "type": "character varying(255)", "nullable": False, "default": None,
        "generated": None,
        "identity": None, "collation": None, "comment": None,
    }  # fmt: skip
    assert columns["rental_duration"]["default"] == "3"
    assert found["constraints"][0]["type"] == "primary key"
    assert {it["name"] for it in found["indexes"]} >= {"film_pkey", "film_fulltext_idx"}
    assert "film_fulltext_trigger" in {it["name"] for it in found["triggers"]}
    assert {it["table"] for it in found["referenced_by"]} == {
        "film_actor", "film_category", "inventory",
    }  # fmt: skip
    assert found["table"]["heap_size"] + found["table"]["toast_size"] > 0


def test_filters_hold_for_every_view(pagila: ConnectionParams) -> None:
    found = look(pagila, tables=True, triggers=True, functions=True, table="film")
    assert [it.name for it in found.tables or ()] == ["film"]
    assert {it.table for it in found.triggers or ()} == {"film"}
    assert {it.name for it in found.functions or ()} == {
        "last_updated", "tsvector_update_trigger",
    }  # fmt: skip
    assert found.detail is None
    assert found.structure is None
    whole = look(pagila, triggers=True, schema="public")
    assert len(whole.triggers or ()) > 10
    assert whole.structure is None
    of_film = look(pagila, structure=True, table="film").structure or {}
    assert ("table", "public.film") in of_film
    assert ("column", "public.film.title") in of_film
    assert not any("actor" in it.name for it in of_film)
    schema = look(pagila, schema="public").structure
    assert ("schema", "public") in (schema or {})
    assert len(schema or ()) > 200
    assert look(pagila, functions=True, schema="pg_catalog").functions


def test_the_clinic(clinic: ConnectionParams) -> None:
    """Never analysed: its sizes are those of the files, its rows are not known."""
    found = look(clinic, tables=True, triggers=True)
    assert all(it.size is not None for it in found.tables or () if it.kind == "table")
    ours = [it for it in found.triggers or () if it.ours]
    assert {it.state for it in ours} == {"enabled"}
    overview = look(clinic).overview
    assert overview
    assert overview.triggers["installed"] == len([it for it in ours if not it.inherited])
    assert overview.triggers["missing"] == 0


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "a.b", "-x", "sel=ect;", "json", "UPPER"])
def test_hostile_names(server18: Server, name: str, capsys: Any) -> None:
    """Fault 51: whatever a table is called, it is found by its name and shown without harm."""
    params = server18.create_database()
    try:
        with session(params) as connection:
            for schema in ("plain", name):
                execute(
                    connection,
                    sql.SQL("CREATE SCHEMA {s} CREATE TABLE {t} ({c} int PRIMARY KEY)").format(
                        s=sql.Identifier(schema),
                        t=sql.Identifier(name if schema == "plain" else "t." + name[:20]),
                        c=sql.Identifier(name),
                    ),
                )
            write_stamp(connection, "dev")
        for wanted in (name, f"plain.{name}"):
            detail = look(params, table=wanted).detail
            assert detail
            assert (detail.table.schema, detail.table.name) == ("plain", name)
            assert [it.name for it in detail.columns] == [name]
        other = look(params, schema=name, table=f"t.{name[:20]}").detail
        assert other
        assert other.table.schema == name
        assert [it.name for it in look(params, schema=name, tables=True).tables or ()] == [
            f"t.{name[:20]}"
        ]
        shown = _shown(look(params, tables=True, structure=True, triggers=True))
        assert not any(c in shown for c in "\x1b\u202e")
        assert visible(name).replace('"', '""') in shown
    finally:
        server18.drop_database(params.database)


def _shown(found: Anatomy) -> str:
    from io import StringIO

    from django.core.management.base import OutputWrapper

    from dbops.management.console import Console

    out = StringIO()
    console = Console(OutputWrapper(out), OutputWrapper(StringIO()), as_json=False)  # type: ignore[arg-type]
    show_anatomy(console, found, "none")
    return out.getvalue()


def test_what_is_not_there(pagila: ConnectionParams) -> None:
    with pytest.raises(NotFoundError, match=r"There is no table flim\.") as caught:
        look(pagila, table="flim")
    assert "public.film" in caught.value.hint
    with pytest.raises(NotFoundError, match="no schema pubic") as caught:
        look(pagila, schema="pubic")
    assert "public" in caught.value.hint
    for hostile in ("", "x" * 100_000, "nul\0", "bad\udcff", "\u202e", "a\nb", "'; --"):
        for filter_ in ("table", "schema"):
            with pytest.raises(NotFoundError) as caught:
                look(pagila, **{filter_: hostile})
            assert len(str(caught.value)) < 200
            assert str(caught.value).isprintable()
    with pytest.raises(StampError):
        look(pagila, environment="prod")
    assert near("payment", ["payments", "rental"]) == ["payments"]


def test_two_of_one_name(server18: Server) -> None:
    params = server18.create_database()
    try:
        with session(params) as connection:
            execute(connection, "CREATE SCHEMA a CREATE TABLE t (); CREATE TABLE public.t ()")
        with pytest.raises(NotFoundError, match=r"can mean 2 tables: a\.t, public\.t"):
            look(params, table="t")
        detail = look(params, table="t", schema="a").detail
        assert detail
        assert detail.table.schema == "a"
    finally:
        server18.drop_database(params.database)


def test_an_ordinary_role_is_told_what_it_may_not_see(server: Server) -> None:
    params = server.create_database()
    owner = server.superuser.with_database(params.database)
    try:
        with session(owner) as connection:
            execute(
                connection,
                "CREATE SCHEMA hidden; CREATE TABLE hidden.secret AS"
                " SELECT g, repeat('x', 500) AS t FROM generate_series(1, 5000) g;"
                "CREATE INDEX ON hidden.secret (g); ANALYZE hidden.secret",
            )
        found = look(params, tables=True)
        [row] = found.tables or ()
        assert (row.name, row.rows, row.bloat) == ("secret", 5000, None)
        assert "may not read 1 of the tables" in found.unseen[0]
        assert look(owner, tables=True).unseen == ()
        detail = look(params, table="secret").detail
        assert detail
        assert [it.name for it in detail.columns] == ["g", "t"]
    finally:
        server.drop_database(params.database)


def test_a_locked_table_holds_nobody_up(pagila: ConnectionParams) -> None:
    with session(pagila) as other:
        execute(other, "BEGIN; LOCK TABLE public.film IN ACCESS EXCLUSIVE MODE")
        assert len(look(pagila, tables=True).tables or ()) > 20
        with pytest.raises(StatementError, match=r"public\.film of dev is locked"):
            look(pagila, table="film")


def test_the_command(installation18: Installation) -> None:
    installation18.result("init_db", "--env", "test")
    installation18.sql("test", 'CREATE TABLE public."e\x1b[31m\u202e" (id int)')
    overview = installation18.run("inspect_db", "--env", "test")
    assert "stamp           test" in overview.out
    assert "last backup     none" in overview.out
    assert installation18.result("inspect_db", "--env", "test")["last_backup"] is None
    tables = installation18.run("inspect_db", "--env", "test", "--tables").out
    assert "\\x1b[31m\\u202e" in tables
    assert "\x1b" not in tables
    result = installation18.result("inspect_db", "--env", "test", "--table", "accounts_user")
    assert result["columns"][0]["name"] == "id"
    error = installation18.refused("inspect_db", "--env", "test", "--table", "acounts_user")
    assert error["code"] == "not_found"
    assert "accounts_user" in error["hint"]
    assert [it["kind"] for it in installation18.result("operations")["operations"]] == ["init"]


def test_names_are_shown_as_they_are(empty_database: ConnectionParams) -> None:
    """What a terminal library takes for its own marks is none."""
    with session(empty_database) as connection:
        for name in ("[/b] x", "[bold]y[/bold]", "a:smile:b"):
            execute(
                connection,
                sql.SQL("CREATE TABLE {} (a int)").format(sql.Identifier("public", name)),
            )
        write_stamp(connection, "dev")
    shown = _shown(look(empty_database, tables=True))
    for name in ("[/b] x", "[bold]y[/bold]", "a:smile:b"):
        assert f'public."{name}"' in shown


def test_passwords_of_foreign_tables_are_not_shown(
    empty_database: ConnectionParams, superuser: ConnectionParams
) -> None:
    with session(superuser.with_database(empty_database.database)) as connection:
        execute(connection, "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w")
        execute(
            connection,
            "CREATE FOREIGN TABLE public.f"
            " (a int OPTIONS (\"Secret\" 'c4n4ry', column_name 'b')) SERVER s"
            " OPTIONS (password 'c4n4ry', \"API_TOKEN\" 'c4n4ry', relation 'shown')",
        )
    with session(empty_database) as connection:
        write_stamp(connection, "dev")
    shown = _shown(look(empty_database, structure=True))
    assert "SERVER s OPTIONS (password=***, API_TOKEN=***, relation=shown)" in shown
    assert "OPTIONS (Secret=***, column_name=b)" in shown
    assert "c4n4ry" not in shown
