"""Fault 51: names that quoting, option parsing, libpq or a line-wise format would trip over."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from dbops.exceptions import PreflightError
from dbops.postgres import catalog
from dbops.postgres.connection import execute, session
from dbops.postgres.params import ConnectionParams
from tests.installation import Installation

# A name ends with the installation's tag, which is by what its databases are found again.
DATABASES = {
    "dev": "-d 'q\"uoted\"';$$=\n%{}",
    "test": "dbname=postgres host=nowhere \u202eש\\",
    "prod": '--version; DROP DATABASE "x" --\t' + "x" * 18,
}
TABLES = """
CREATE SCHEMA "-s=;$$'";
CREATE TABLE "-s=;$$'"."--t ""q"" \\;$x$
new" (id int PRIMARY KEY, "c=';""$$
ז" text, "-created" int, created_at timestamptz, updated_at timestamptz,
created_by text, updated_by text);
INSERT INTO "-s=;$$'"."--t ""q"" \\;$x$
new" VALUES (1, 'a', 2), (2, E'b\\n;', 3);
CREATE TABLE public."t.with.dots" (id bigserial PRIMARY KEY, updated_at timestamptz);
INSERT INTO public."t.with.dots" DEFAULT VALUES;
CREATE TABLE public."{long}" ("{long}" int REFERENCES "-s=;$$'"."--t ""q"" \\;$x$
new");
INSERT INTO public."{long}" VALUES (1);
CREATE INDEX "-i' ""$$;" ON public."{long}" ("{long}");
CREATE TABLE public."שלום \u202e עולם" AS SELECT 1 AS "%s %(x)s {}";
CREATE VIEW public."v;'"" " AS SELECT 1 AS "a=b";
""".replace("{long}", "y" * 60 + "Ωe")


DOTTED = """
CREATE SCHEMA "a.b"; CREATE SCHEMA a;
CREATE TABLE "a.b".c AS SELECT 1 AS id; CREATE TABLE a."b.c" AS SELECT 2 AS id;
"""


@pytest.fixture
def odd(installation: Installation) -> Iterator[Installation]:
    server = installation.server
    for name, params in list(installation.databases.items()):
        tag = params.database.partition("_")[2]
        whole = f"{DATABASES[name]}_{tag}"
        assert len(whole.encode()) <= 63
        server.drop_database(params.database)
        installation.databases[name] = server.create_database(whole)
        variable = f"{name.upper()}_DATABASE_URL"
        installation.variables[variable] = server.url(quote(whole, safe=""))
    return installation


def test_databases_tables_and_columns_of_odd_names(odd: Installation) -> None:
    """Fault 51: the right object, by every way that leads to it."""
    for name in ("dev", "test"):
        odd.result("init_db", "--env", name)
    odd.sql("test", TABLES)
    assert odd.result("apply_triggers", "--env", "test")["triggers"] > 0
    odd.result("verify_triggers", "--env", "test")
    before = odd.hashes("test")
    backup = odd.result("dbbackup", "-d", "test", "--checksums")["name"]
    for strategy in ("dump", "stream", "template"):
        odd.result("copy_db", "test", "dev", "--noinput", "--strategy", strategy)
        assert odd.hashes("dev") == before, strategy
    assert odd.result("diff_db", "test", "dev") is not None
    odd.sql("test", 'DELETE FROM public."t.with.dots"')
    odd.result("dbrestore", "-d", "test", "-i", backup, "--noinput")
    assert odd.hashes("test") == before
    assert odd.result("undo_operation", "--noinput")["database"] == odd.databases["test"].database


def test_a_part_of_odd_names_is_restored(installation18: Installation) -> None:
    """Fault 51: a table by its name, whatever the name looks like to pg_dump's patterns."""
    made = installation18
    made.result("init_db", "--env", "test")
    made.sql("test", TABLES)
    before = made.hashes("test")
    backup = made.result("dbbackup", "-d", "test")["name"]
    made.sql("test", 'DELETE FROM public."t.with.dots"; DROP TABLE public."שלום \u202e עולם"')
    for table in ("public.t.with.dots", "public.שלום \u202e עולם"):
        made.result("dbrestore", "-d", "test", "-i", backup, "--noinput", "--table", table)
    made.refused("dbrestore", "-d", "test", "-i", backup, "--noinput", "--table", "t*' OR --x")
    assert made.hashes("test") == before


def test_a_schema_with_a_dot_is_refused(empty_database: ConnectionParams) -> None:
    """Fault 51: two tables that would bear one name: refused before either is taken for the other,
    and the sentence says what to do."""
    with session(empty_database) as connection:
        execute(connection, DOTTED)
        for look in (catalog.tables, catalog.table_names):
            with pytest.raises(PreflightError, match=r'"a\.b" has a dot') as caught:
                look(connection)
        execute(connection, caught.value.hint.removeprefix("Rename it: "))
        assert [it.label for it in catalog.tables(connection)] == ["a.b.c", "a_b.c"]
