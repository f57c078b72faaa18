"""Copies of parts: the schema of one database with the rows of the other, tables kept or left out.

What does not fit is told, table by table, and nothing is changed; or left out, where that was asked
for.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.stamp import write_stamp
from dbops.postgres.tools import find_tool
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


PARTS_OF_PROD = """
CREATE TABLE public.audit (at int, who text) PARTITION BY RANGE (at);
CREATE TABLE public.audit_1 PARTITION OF public.audit FOR VALUES FROM (0) TO (10)
  PARTITION BY RANGE (at);
CREATE TABLE public.audit_1a PARTITION OF public.audit_1 FOR VALUES FROM (0) TO (10);
CREATE TABLE public.audit_2 PARTITION OF public.audit FOR VALUES FROM (10) TO (20);
INSERT INTO public.audit VALUES (1, 'CANARY'), (11, 'CANARY');
CREATE TABLE public.people (id int PRIMARY KEY, first text, last text,
  whole text GENERATED ALWAYS AS (first || last) STORED);
INSERT INTO public.people VALUES (1, 'CANARY', 'CANARY');
"""
PEOPLE_OF_DEV = "CREATE TABLE public.people (id int PRIMARY KEY, first text, last text, whole text)"
HASHED = '["public.people"]\nfirst = "hash"\nlast = "hash"\n'


@pytest.mark.parametrize(
    ("rules", "audit", "options"),
    [
        ('["public.audit"]\nrows = "leave out"', "(at int, who text)", []),
        ('["public.audit"]\nwho = "hash"', "(at int, who text) PARTITION BY RANGE (at); CREATE "
         "TABLE public.audit_all PARTITION OF public.audit DEFAULT", []),
        ('["public.audit"]\nwho = "hash"', "(at int, who text); CREATE TABLE public.audit_1 "
         "(at int, who text)", []),
        ('["public.audit"]\nwho = "keep"', "(at int, who text)", ["--exclude", "public.audit*"]),
    ],
)  # fmt: skip
def test_masks_hold_where_tables_are_cut_differently(
    installation18: Installation, rules: str, audit: str, options: list[str]
) -> None:
    file = installation18.home / "masking.toml"
    file.write_text(rules + "\n" + HASHED)
    installation18.variables["DBOPS_MASKING_FILE"] = str(file)
    installation18.sql("prod", PARTS_OF_PROD)
    installation18.sql("dev", f"CREATE TABLE public.audit {audit}; {PEOPLE_OF_DEV}")
    for name in ("prod", "dev"):
        with session(installation18.databases[name]) as connection:
            write_stamp(connection, name)
    installation18.result("copy_db", "prod", "dev", "--data-only", *options, "--noinput")
    for table in ("audit", "people"):
        text = installation18.sql("dev", f"SELECT string_agg(t::text, ' ') FROM public.{table} t")
        assert "CANARY" not in str(text)
    assert installation18.sql("dev", "SELECT length(first) FROM public.people") == 32
    assert installation18.sql("dev", "SELECT whole IS NULL FROM public.people")


def test_who_empties_a_table_while_the_copy_waits_is_waited_for(two: Installation) -> None:
    for strategy in ("stream", "dump"):
        with session(two.databases["test"]) as other:
            execute(other, "BEGIN")
            execute(other, "TRUNCATE public.only_test")
            execute(other, "INSERT INTO public.only_test VALUES (8), (9)")
            process = two.start("copy_db", "test", "dev", "--strategy", strategy, "--noinput")
            with session(two.server.superuser) as watching:
                deadline = time.monotonic() + 30
                while not fetch_value(watching, WAITING, [two.databases["test"].database]):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            execute(other, "COMMIT")
        assert process.wait(60) == 0
        assert rows(two, "public.only_test", "id") == "8,9"
        two.sql("test", "DELETE FROM public.only_test")


WAITING = (
    """SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"""
)


def test_text_arrives_as_it_was_whatever_clients_are_told_to_speak(two: Installation) -> None:
    two.sql("test", "CREATE TABLE public.words AS SELECT g AS id, repeat('äö€', 40) AS word "
                    "FROM generate_series(1, 40000) g")  # fmt: skip
    name = two.databases["test"].database
    two.sql("test", f"ALTER DATABASE {name} SET client_encoding = 'LATIN9'")
    two.result(
        "copy_db", "test", "dev", "--strategy", "stream", "--verify", "checksum", "--noinput"
    )
    assert two.sql("dev", "SELECT left(word, 3) FROM public.words LIMIT 1") == "äö€"


def test_preserving_what_cannot_be_is_refused(two: Installation) -> None:
    before = two.hashes("dev")
    for pattern, said in (("only_dev", "has no table public.only_dev"), ("typo_*", "matches no")):
        error = two.refused("copy_db", "test", "dev", "--preserve", pattern, "--noinput")
        assert said in error["message"]
    refusals = [
        two.refused("copy_db", "test", "dev", "--exclude", "typo", *way)
        for way in (["--noinput"], ["--dry-run"], [])  # the last before anybody is asked
    ]
    assert refusals[0]["message"] == "--exclude typo matches no table of test."
    assert refusals == refusals[:1] * 3
    assert two.hashes("dev") == before


def test_children_of_inheritance_are_no_misfits(two: Installation) -> None:
    for name, key in (("test", "PRIMARY KEY"), ("dev", "")):
        two.sql(name, f"CREATE TABLE public.par (id int {key}); CREATE TABLE public.chi () "
                      "INHERITS (public.par)")  # fmt: skip
    two.sql("dev", "INSERT INTO public.par VALUES (1); INSERT INTO public.chi VALUES (1), (1)")
    copied = two.result("copy_db", "test", "dev", "--schema-only", "--noinput")
    assert copied["left_out"] == {}
    assert two.sql("dev", "SELECT count(*) FROM public.par") == 3


def test_preserving_a_table_leaves_the_other_sequences_to_the_source(two: Installation) -> None:
    two.sql("test", "CREATE SEQUENCE public.invoice_no")
    two.sql("test", "SELECT setval('public.invoice_no', 500)")
    two.sql("dev", "CREATE SEQUENCE public.invoice_no")
    two.result("copy_db", "test", "dev", "--preserve", "owners", "--drop-misfits", "--noinput")
    assert two.sql("dev", "SELECT nextval('public.invoice_no')") == 501


def test_a_misfit_is_told_without_its_value(two: Installation) -> None:
    two.sql("dev", "INSERT INTO public.pets (kind) VALUES ('CANARY')")
    answer = two.run("copy_db", "test", "dev", "--schema-only", "--noinput", code=1)
    assert "1 of public.pets" in answer.err
    assert "CANARY" not in answer.err + (two.home / "journal.jsonl").read_text()


def test_a_dump_of_production_made_by_pg_dump_is_productions(
    two: Installation, tmp_path: Path
) -> None:
    two.result("init_db", "--env", "prod", "--confirm", "prod")
    prod, file = two.databases["prod"], tmp_path / "innocent.dump"
    tool = find_tool("pg_dump", two.server.major)
    subprocess.run(
        [tool, "-Fc", "-f", file, "-d", prod.dbname_argument], check=True,
        env={**prod.libpq_environment(), "PGPASSWORD": prod.password},
    )  # fmt: skip
    before = two.hashes("dev")
    for way in ([], ["--in-place"]):
        error = two.refused("dbrestore", "-d", "dev", "-I", str(file), *way, "--noinput")
        assert "unmasked data of prod" in error["message"]
    assert two.hashes("dev") == before
    two.result("dbrestore", "-d", "dev", "-I", str(file), "--no-mask", "--noinput")
    assert "prod" in two.refused("copy_db", "dev", "test", "--noinput")["message"]


def test_numbering_goes_on_where_the_new_schema_numbers_otherwise(two: Installation) -> None:
    two.sql("test", "CREATE TABLE public.bills (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    two.sql("dev", "CREATE TABLE public.bills (id int PRIMARY KEY)")
    two.sql("dev", "INSERT INTO public.bills VALUES (70), (71)")
    two.result("copy_db", "test", "dev", "--schema-only", "--noinput")
    two.sql("dev", "INSERT INTO public.bills DEFAULT VALUES")
    assert rows(two, "public.bills", "id") == "70,71,72"
