"""Restores without a swap, where they once did harm: each of these was found by attacking them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dbops.postgres.connection import execute, session
from tests.faults import wait_for
from tests.installation import Installation


@pytest.fixture
def living(installation18: Installation) -> Installation:
    installation18.result("init_db", "--env", "test")
    return installation18


def _restore(living: Installation, name: str, *options: str) -> dict[str, Any]:
    return living.result("dbrestore", "-d", "test", "-i", name, "--noinput", *options)


def test_children_of_a_table_keep_their_rows(living: Installation) -> None:
    living.sql(
        "test",
        """CREATE TABLE public.parent (id int PRIMARY KEY, v text);
        CREATE TABLE public.child (extra text) INHERITS (public.parent);
        INSERT INTO public.parent VALUES (1, 'p'); INSERT INTO public.child VALUES (2, 'c', 'x')""",
    )
    name = living.result("dbbackup", "-d", "test")["name"]
    living.sql(
        "test", "UPDATE ONLY public.parent SET v = 'lost'; UPDATE public.child SET v = 'new'"
    )
    _restore(living, name, "--table", "parent")
    assert living.sql("test", "SELECT v FROM ONLY public.parent") == "p"
    assert living.sql("test", "SELECT v FROM public.child") == "new"


def test_what_a_partitioned_table_held_is_kept(living: Installation) -> None:
    living.sql(
        "test",
        """CREATE TABLE public.parted (id int) PARTITION BY RANGE (id);
        CREATE TABLE public.p1 PARTITION OF public.parted FOR VALUES FROM (0) TO (100);
        INSERT INTO public.parted SELECT generate_series(1, 50);
        CREATE TABLE public.noted (id int);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN INSERT INTO public.noted VALUES (NEW.id); RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE INSERT ON public.parted FOR EACH ROW
          EXECUTE FUNCTION public.note()""",
    )
    name = living.result("dbbackup", "-d", "test")["name"]
    living.sql("test", "DELETE FROM public.parted WHERE id > 10")
    result = _restore(living, name, "--table", "parted")
    assert living.sql("test", "SELECT count(*) FROM public.parted") == 50
    _restore(living, result["saved_as"], "--table", "parted")
    assert living.sql("test", "SELECT count(*) FROM public.parted") == 10
    assert living.sql("test", "SELECT count(*) FROM public.noted") == 0
    # A partition made anew would set off its parent's triggers.
    living.sql("test", "DROP TABLE public.p1")
    refused = living.refused("dbrestore", "-d", "test", "-i", name, "--table", "p1", "--noinput")
    assert "partition of public.parted" in refused["message"]


def test_deferred_keys_and_triggers_do_not_stand_in_the_way(living: Installation) -> None:
    living.sql(
        "test",
        """CREATE TABLE public.a (id int PRIMARY KEY);
        CREATE TABLE public.b (id serial, a int REFERENCES public.a DEFERRABLE INITIALLY DEFERRED,
                               updated_at timestamptz);
        INSERT INTO public.a VALUES (1);
        INSERT INTO public.b (a) SELECT 1 FROM generate_series(1, 9)""",
    )
    living.result("apply_triggers", "--env", "test")
    constraint = (
        "SELECT conname FROM pg_constraint WHERE conrelid = 'public.b'::regclass AND contype = 'f'"
    )
    key = living.sql("test", constraint)
    living.sql("test", f"COMMENT ON CONSTRAINT {key} ON public.b IS 'kept 100% {{}}'")
    name = living.result("dbbackup", "-d", "test")["name"]
    living.sql("test", "DELETE FROM public.b WHERE id > 3")
    for table in ("b", "a"):
        _restore(living, name, "--table", table)
    assert living.sql("test", "SELECT count(*) FROM public.b") == 9
    comment = """SELECT obj_description(oid) FROM pg_constraint
                  WHERE conrelid = 'public.b'::regclass AND contype = 'f'"""
    assert living.sql("test", comment) == "kept 100% {}"
    # Refused, with the sequence where it stood.
    living.sql(
        "test", "DELETE FROM public.b; DELETE FROM public.a; SELECT setval('public.b_id_seq', 5)"
    )
    before = living.hashes("test")
    living.refused("dbrestore", "-d", "test", "-i", name, "--table", "b", "--noinput")
    assert living.hashes("test") == before


def test_a_schema_takes_nothing_along_unnoticed(living: Installation) -> None:
    living.sql(
        "test",
        """CREATE SCHEMA app; CREATE TABLE app.t (id int);
        CREATE TYPE app.mood AS ENUM ('sad')""",
    )
    name = living.result("dbbackup", "-d", "test")["name"]
    restore = ("dbrestore", "-d", "test", "-i", name, "--schema", "app", "--noinput")
    for made, gone in (
        ("CREATE PUBLICATION pub FOR TABLE app.t", "DROP PUBLICATION pub"),
        ("CREATE SCHEMA keep; CREATE DOMAIN keep.d AS app.mood", "DROP SCHEMA keep CASCADE"),
    ):
        living.sql("test", made)
        assert "depends on it" in living.refused(*restore)["message"]
        living.sql("test", gone)
    living.result(*restore)


def test_in_place_widens_no_right(living: Installation) -> None:
    living.sql("test", "CREATE TABLE public.secret AS SELECT 1 AS id")
    name = living.result("dbbackup", "-d", "test")["name"]
    living.sql(
        "test",
        """ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT UPDATE ON TABLES TO PUBLIC;
        GRANT CREATE ON SCHEMA public TO PUBLIC""",
    )
    result = _restore(living, name, "--in-place")
    acl = "SELECT coalesce(relacl::text, '') FROM pg_class WHERE oid = 'public.secret'::regclass"
    assert "=r" not in living.sql("test", acl).replace("skinspire_app=", "")
    assert living.sql("test", "SELECT count(*) FROM pg_default_acl") == 0
    assert "=UC/" not in living.sql(
        "test", "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'"
    ).replace("pg_database_owner=UC/", "")
    # What was replaced is kept as long as a swapped database would be, and an undo says so.
    living.result("dbbackup", "-d", "test")
    living.result("prune_backups", "--noinput")
    assert result["saved_as"] in {it["name"] for it in living.result("listbackups")["backups"]}
    assert result["saved_as"] in living.refused("undo_operation", "--noinput")["hint"]


def test_an_archive_swapped_while_it_is_restored(living: Installation) -> None:
    living.sql(
        "test",
        """CREATE TABLE public.few AS SELECT 1 AS id;
        CREATE FUNCTION public.slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql
          AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN $1; END $$;
        CREATE TABLE public.slowly (id int CHECK (public.slow(id) > 0));
        INSERT INTO public.slowly SELECT generate_series(1, 100)""",
    )
    first = living.home / "backups" / living.result("dbbackup", "-d", "test")["name"]
    living.sql("test", "INSERT INTO public.few SELECT generate_series(2, 5000)")
    second = living.home / "backups" / living.result("dbbackup", "-d", "test")["name"]
    before = living.hashes("test")
    process = living.start("dbrestore", "-d", "test", "-i", first.name, "--noinput", "--jobs", "1")
    wait_for(lambda: any("incoming" in name for name in living.scratch()))
    shutil.copy(second, living.home / "other")
    (living.home / "other").rename(first)
    _, err = process.communicate(timeout=60)
    if process.returncode:  # else it had been opened already, and was read as it was
        assert "changed while it was read" in err or "pg_restore failed" in err
        assert living.hashes("test") == before
    else:
        assert living.sql("test", "SELECT count(*) FROM public.few") == 1


def test_a_copy_of_productions_backup_is_still_productions(
    living: Installation, tmp_path: Path
) -> None:
    living.result("init_db", "--env", "prod", "--confirm", "prod")
    living.sql("prod", "CREATE TABLE public.patients AS SELECT 1 AS id")
    name = living.result("dbbackup", "-d", "prod")["name"]
    file = living.home / "backups" / name
    copied = tmp_path / "innocent.dump"
    shutil.copy(file, copied)
    shutil.copy(file, living.home / "backups" / "innocent.psql.bin")
    for way in (["-I", str(file)], ["-I", str(copied)], ["-i", "innocent.psql.bin"]):
        error = living.refused("dbrestore", "-d", "dev", *way, "--noinput")
        assert "unmasked" in error["message"]
    living.variables["DBOPS_ALLOW_UNMASKED"] = "false"
    error = living.refused("dbrestore", "-d", "dev", "-i", name, "--no-mask", "--noinput")
    assert "DBOPS_ALLOW_UNMASKED" in error["hint"]


def test_a_new_database_stays_closed_to_everybody(living: Installation) -> None:
    database = living.databases["test"].database
    with session(living.server.superuser) as control:
        execute(control, f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    name = living.result("dbbackup", "-d", "test")["name"]
    _restore(living, name, "--into", f"{database}_new")
    acl = "SELECT datacl::text FROM pg_database WHERE datname = '{}'"
    try:
        assert "=c" not in living.sql("test", acl.format(f"{database}_new")).replace(
            "skinspire_app=C", ""
        )
    finally:
        living.server.drop_database(f"{database}_new")


def test_large_objects_and_jobs(living: Installation) -> None:
    living.sql("test", "SELECT lo_from_bytea(4242, 'x'); COMMENT ON LARGE OBJECT 4242 IS 'photo'")
    name = living.result("dbbackup", "-d", "test")["name"]
    for _ in range(3):
        _restore(living, name, "--jobs", "8")
    assert living.sql("test", "SELECT obj_description(4242, 'pg_largeobject')") == "photo"


@pytest.mark.parametrize(
    "options",
    [["--table", ""], ["--schema", ""], ["--table", "x" * 5000], ["--into", ""],
     ["--into", "a__incoming_0123456789ab"], ["--jobs", "0"], ["--jobs", "many"],
     ["--table", "a", "--schema", "b"], ["--in-place", "--table", "a"],
     ["--in-place", "--skip-privileged"], ["--table", "skinspire.stamp"], ["-i", "caf\udce9"]],
)  # fmt: skip
def test_bad_input_is_one_sentence(living: Installation, options: list[str]) -> None:
    name = [] if "-i" in options else ["-i", "some"]
    answer = living.run("dbrestore", "-d", "test", "--noinput", *name, *options, code=None)
    assert answer.code in (1, 2), answer
    assert len(answer.err) < 3000
