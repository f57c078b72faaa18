"""Copies of parts: the schema of one database with the rows of the other, tables kept or left out.

What does not fit is told, table by table, and nothing is changed; or left out, where that was asked
for.
"""

from __future__ import annotations

import pytest

from tests.installation import Installation

TEST = """
CREATE TYPE public.kind AS ENUM ('cat', 'dog');
CREATE TABLE public.owners (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE,
  city text NOT NULL DEFAULT 'Ghent', loud text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE public.pets (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  owner int REFERENCES public.owners, kind public.kind, name varchar(5), age int CHECK (age < 40),
  mother int REFERENCES public.pets);
CREATE TABLE public.log (at date, note text) PARTITION BY RANGE (at);
CREATE TABLE public.log_old PARTITION OF public.log FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
CREATE TABLE public.log_new PARTITION OF public.log FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
CREATE TABLE public.only_test (id int);
INSERT INTO public.owners VALUES (1, 'Test', 'test@example.org');
INSERT INTO public.pets (owner, kind, name, age)
  VALUES (1, 'cat', 'Tiger', 3), (1, 'dog', 'Rex', 4);
INSERT INTO public.log VALUES ('2023-05-05', 'from test');
INSERT INTO public.only_test VALUES (7);
"""
DEV = """
CREATE TABLE public.owners (id bigint PRIMARY KEY, nick text, name text, email text);
CREATE TABLE public.pets (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner bigint, kind text,
  name text, age int, mother int);
CREATE TABLE public.log (at date, note text) PARTITION BY RANGE (at);
CREATE TABLE public.log_all PARTITION OF public.log DEFAULT;
CREATE TABLE public.only_dev (id serial PRIMARY KEY, note text);
INSERT INTO public.owners VALUES (10, 'n', 'Ada', 'ada@example.org'), (11, 'm', 'Bea', NULL);
INSERT INTO public.pets (owner, kind, name, age, mother) VALUES (10, 'cat', 'Mia', 2, NULL),
  (11, 'dog', 'Bo', 1, NULL), (10, 'cat', 'Kit', 1, 1);
INSERT INTO public.log VALUES ('2023-01-01', 'old'), ('2025-01-01', 'new');
INSERT INTO public.only_dev (note) VALUES ('a'), ('b');
"""


@pytest.fixture
def two(installation18: Installation) -> Installation:
    """test and dev, of different schemas and different rows."""
    for name, script in (("test", TEST), ("dev", DEV)):
        installation18.sql(name, script)
        installation18.result("init_db", "--env", name, "--adopt")
    return installation18


def rows(installation: Installation, table: str, what: str = "name", where: str = "true") -> str:
    found = installation.sql(
        "dev", f"SELECT string_agg({what}::text, ',' ORDER BY {what}) FROM {table} WHERE {where}"
    )
    return str(found)


def test_the_schema_alone_keeps_the_rows(two: Installation) -> None:
    copied = two.result("copy_db", "test", "dev", "--schema-only", "--noinput")
    assert copied["strategy"] == "stream"
    assert rows(two, "public.owners") == "Ada,Bea"
    assert rows(two, "public.owners", "city || loud") == "GhentADA,GhentBEA"
    assert rows(two, "public.pets") == "Bo,Kit,Mia"
    assert rows(two, "public.log_old", "note") == "old", "each row finds its new partition"
    assert rows(two, "public.log_new", "note") == "new"
    assert two.sql("dev", "SELECT count(*) FROM public.only_test") == 0
    assert two.sql("dev", "SELECT to_regclass('public.only_dev')") is None
    assert two.sql("dev", "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND "
                          "convalidated AND conrelid = 'public.pets'::regclass") == 2  # fmt: skip
    two.sql("dev", "INSERT INTO public.pets (owner, name) VALUES (10, 'next')")
    assert two.sql("dev", "SELECT max(id) FROM public.pets") == 4, "numbering goes on"
    two.result("undo_operation", "--noinput")
    assert rows(two, "public.only_dev", "note") == "a,b"


def test_the_rows_alone_keep_the_schema(two: Installation) -> None:
    two.result("copy_db", "test", "dev", "--data-only", "--noinput")
    assert rows(two, "public.owners") == "Test"
    assert rows(two, "public.owners", "id::text || coalesce(nick, '-')") == "1-"
    assert rows(two, "public.pets", "kind || name") == "catTiger,dogRex"
    assert rows(two, "public.log_all", "note") == "from test"
    assert rows(two, "public.only_dev", "note") == "a,b", "what the source does not know stays"
    two.sql("dev", "INSERT INTO public.only_dev (note) VALUES ('c')")
    two.sql("dev", "INSERT INTO public.pets (name) VALUES ('next')")
    assert two.sql("dev", "SELECT max(id) FROM public.pets") == 3


def test_what_does_not_fit_stops_the_copy_and_is_told_per_table(two: Installation) -> None:
    two.sql("dev", """INSERT INTO public.pets (owner, kind, name, age, mother) VALUES
        (10, 'parrot', 'Lora', 2, NULL), (10, 'cat', 'much too long', 2, NULL),
        (10, 'cat', 'Old', 77, NULL), (99, 'cat', 'Stray', 1, NULL),
        (10, 'dog', 'Pup', 1, 4)""")  # fmt: skip
    two.sql("dev", "INSERT INTO public.owners VALUES (12, 'x', 'Cy', 'ada@example.org'), "
                   "(13, 'y', NULL, NULL)")  # fmt: skip
    before = two.hashes("dev")
    error = two.refused("copy_db", "test", "dev", "--schema-only", "--noinput")
    assert error["code"] == "misfit"
    assert "2 of public.owners" in error["message"]
    assert "5 of public.pets" in error["message"], error["message"]
    assert "--drop-misfits" in error["hint"]
    assert two.hashes("dev") == before
    assert two.scratch() == []

    copied = two.result("copy_db", "test", "dev", "--schema-only", "--drop-misfits", "--noinput")
    assert copied["left_out"] == {"public.owners": 2, "public.pets": 5}
    assert rows(two, "public.owners") == "Ada,Bea"
    assert rows(two, "public.pets") == "Bo,Kit,Mia", "whose mother went, goes"


def test_a_column_nothing_can_fill_is_named(two: Installation) -> None:
    two.sql("test", "ALTER TABLE public.owners ADD code text NOT NULL DEFAULT 'x'")
    two.sql("test", "ALTER TABLE public.owners ALTER code DROP DEFAULT")
    error = two.refused("copy_db", "test", "dev", "--schema-only", "--noinput")
    assert "public.owners.code" in error["message"]
    assert two.scratch() == []


def test_tables_kept_and_tables_left_out(two: Installation) -> None:
    before = two.hashes("test")
    copied = two.result(
        "copy_db", "test", "dev", "--preserve", "owners", "--exclude", "public.log*",
        "--drop-misfits", "--noinput",
    )  # fmt: skip
    assert rows(two, "public.owners") == "Ada,Bea"
    assert copied["left_out"] == {"public.pets": 2}, "their owners are not dev's"
    assert two.sql("dev", "SELECT count(*) FROM public.log") == 0
    assert rows(two, "public.only_test", "id") == "7"
    assert two.hashes("test") == before


def test_a_preserved_table_that_others_refer_to_is_told(two: Installation) -> None:
    error = two.refused("copy_db", "test", "dev", "--preserve", "owners", "--noinput")
    assert "2 of public.pets" in error["message"]
    assert "public.owners lacks what they refer to" in error["message"]


@pytest.mark.parametrize(
    "options",
    [
        ("--schema-only", "--preserve", "owners"),
        ("--strategy", "template", "--exclude", "owners"),
        ("--strategy", "dump", "--data-only"),
        ("--strategy", "stream", "--disconnect-source"),
    ],
)
def test_choices_that_exclude_each_other(two: Installation, options: tuple[str, ...]) -> None:
    assert two.refused("copy_db", "test", "dev", *options, "--noinput", code=2)["code"] == "usage"


def test_a_dry_run_tells_everything_and_writes_nothing(two: Installation) -> None:
    two.sql("test", "ANALYZE")
    before = two.hashes("dev")
    plan = two.result("copy_db", "test", "dev", "--dry-run", "--exclude", "log*")
    assert plan["strategy"] == "stream"
    assert plan["emptied"] == ["public.log_new", "public.log_old"]
    assert plan["rows"] >= 4
    assert plan["expected_seconds"] > 0
    assert two.hashes("dev") == before
    text = two.run("copy_db", "test", "dev", "--dry-run").out
    assert "by template: one server" in text
    assert "Nothing was done." in text
