"""The promise, on real data: back up, damage, restore, copy, undo; rows are what they were."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from dbops.exceptions import ConnectionFailedError, StatementError
from dbops.postgres.connection import session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.tools import find_tool
from tests.installation import Installation, row_hashes
from tests.servers import Server


@pytest.fixture
def original(server: Server, shared_data: Path) -> Iterator[ConnectionParams]:
    """pagila as PostgreSQL's own tools restore it, as a superuser."""
    name = server.create_database().database  # of its own: workers share the servers
    params = server.superuser.with_database(name)
    subprocess.run(
        [find_tool("pg_restore", server.major), "--no-owner", "--no-privileges",
         "--exit-on-error", "-d", params.dbname_argument, shared_data / "pagila/pagila.dump"],
        env={**params.libpq_environment(), "PGPASSWORD": params.password}, check=True,
    )  # fmt: skip
    yield params
    server.drop_database(name)


@pytest.mark.parametrize("file", ["pagila.dump", "pagila.sql.gz"])
def test_pagila_through_the_whole_job(
    installation: Installation, original: ConnectionParams, shared_data: Path, file: str
) -> None:
    expected = row_hashes(original)

    restored = installation.result(
        "dbrestore", "-I", str(shared_data / "pagila" / file), "-d", "test", "--noinput"
    )
    assert installation.hashes("test") == expected
    assert (restored["tables"], restored["rows"]) == (21, 46273)

    copied = installation.result("copy_db", "test", "dev", "--noinput")
    assert installation.hashes("dev") == expected
    assert copied["rows"] == 46273

    backup = installation.result("dbbackup", "-d", "dev")
    assert backup["rows"] == 46273
    installation.sql("dev", "DROP TABLE public.film_actor CASCADE")
    installation.sql("dev", "UPDATE public.customer SET last_name = 'LOST'")
    damaged = installation.hashes("dev")
    assert damaged != expected

    restore = installation.run(
        "dbrestore", "-d", "dev", "-i", backup["name"], "--noinput", "--json"
    ).json
    assert installation.hashes("dev") == expected
    listed = installation.result("listbackups", "-d", "dev")["backups"]
    assert [item["name"] for item in listed] == [backup["name"]]
    assert listed[0]["verified_at"] is not None

    installation.result("undo_operation", restore["operation"]["id"], "--noinput")
    assert installation.hashes("dev") == damaged, "undo puts back what was replaced"
    installation.result("undo_operation", "--noinput")
    assert installation.hashes("dev") == expected, "and an undo can be undone"


def test_a_raw_script_is_refused_and_nothing_changes(
    installation: Installation, shared_data: Path
) -> None:
    installation.result("init_db", "--env", "test")
    before = installation.hashes("test")
    error = installation.refused(
        "dbrestore", "-I", str(shared_data / "chinook/chinook.sql"), "-d", "test", "--noinput"
    )
    assert error["code"] == "foreign_dump"
    assert "DROP DATABASE" in error["message"]
    assert error["hint"]
    assert installation.hashes("test") == before
    assert installation.scratch() == []


@pytest.mark.parametrize("strategy", ["template", "dump"])
def test_every_strategy_copies_equal_rows_and_stamps_the_target(
    installation: Installation, strategy: str
) -> None:
    _make_clinic(installation, "test")
    result = installation.result("copy_db", "test", "dev", "--strategy", strategy, "--noinput")
    assert result["strategy"] == strategy
    assert installation.hashes("dev") == installation.hashes("test")
    assert installation.sql("dev", "SELECT environment FROM skinspire.stamp") == "dev"
    assert installation.sql("test", "SELECT environment FROM skinspire.stamp") == "test"
    assert result["triggers"] > 0
    installation.result("verify_triggers", "--env", "dev")


def test_a_busy_source_is_copied_by_dump(installation: Installation) -> None:
    _make_clinic(installation, "test")
    with session(installation.databases["test"]):
        result = installation.result("copy_db", "test", "dev", "--noinput")
        error = installation.refused(
            "copy_db", "test", "dev", "--strategy", "template", "--noinput"
        )
    assert result["strategy"] == "dump"
    assert "nobody on" in error["message"]
    assert installation.hashes("dev") == installation.hashes("test")


def test_what_the_database_had_of_its_own_is_carried_over(installation: Installation) -> None:
    _make_clinic(installation, "test")
    dev = installation.databases["dev"].database
    with session(installation.server.params) as control, control.cursor() as cursor:
        cursor.execute(f"COMMENT ON DATABASE {dev} IS 'the sandbox'")
        cursor.execute(f"ALTER DATABASE {dev} SET work_mem TO '17MB'")
        cursor.execute(f'ALTER DATABASE {dev} SET search_path TO "$user", clinic, public')
        cursor.execute(f"ALTER DATABASE {dev} CONNECTION LIMIT 42")
        cursor.execute(f"REVOKE CONNECT ON DATABASE {dev} FROM PUBLIC")
    described = """SELECT shobj_description(d.oid, 'pg_database'), d.datconnlimit,
                          (SELECT array_agg(a ORDER BY a::text) FROM unnest(d.datacl) a)::text,
                          pg_get_userbyid(d.datdba), s.setconfig::text
                     FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid
                    WHERE d.datname = %s"""
    with session(installation.server.params) as control, control.cursor() as cursor:
        cursor.execute(described, [dev])
        before = cursor.fetchone()
        installation.result("copy_db", "test", "dev", "--noinput")
        cursor.execute(described, [dev])
        assert cursor.fetchone() == before


def test_readers_see_less_than_a_second_of_outage(installation: Installation) -> None:
    """100 MB restored while a reader polls the target ten times a second and more."""
    installation.result("init_db", "--env", "test")
    installation.sql(
        "test",
        """CREATE TABLE public.big AS
           SELECT g AS id, md5(g::text) || repeat(md5((g * 7)::text), 8) AS text
             FROM generate_series(1, 350000) g""",
    )
    assert installation.sql("test", "SELECT pg_total_relation_size('public.big')") > 100 << 20
    name = installation.result("dbbackup", "-d", "test")["name"]

    gaps: list[float] = []
    rows: set[tuple[int, ...] | None] = set()
    done = threading.Event()

    def poll() -> None:
        last = time.monotonic()
        while not done.is_set():
            try:
                with session(installation.databases["test"]) as connection:
                    while not done.is_set():
                        with connection.cursor() as cursor:
                            cursor.execute("SELECT count(*) FROM public.big WHERE id = 1")
                            rows.add(cursor.fetchone())
                        gaps.append(time.monotonic() - last)
                        last = time.monotonic()
                        time.sleep(0.02)
            except (psycopg2.Error, ConnectionFailedError, StatementError):
                time.sleep(0.005)

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        result = installation.result("dbrestore", "-d", "test", "-i", name, "--noinput")
    finally:
        done.set()
        reader.join()
    assert result["outage_ms"] < 1000
    assert rows == {(1,)}
    assert len(gaps) > 10
    assert max(gaps) < 1.0, f"the reader waited {max(gaps):.2f} s"


def test_an_archive_is_readable_without_us(installation: Installation, tmp_path: Path) -> None:
    import zstandard

    _make_clinic(installation, "test")
    name = installation.result("dbbackup", "-d", "test")["name"]
    plain = tmp_path / "plain.dump"
    with (installation.home / "backups" / name).open("rb") as packed, plain.open("wb") as out:
        zstandard.ZstdDecompressor().copy_stream(packed, out)
    pg_restore = find_tool("pg_restore", installation.server.major)
    target = installation.server.create_database()
    try:
        subprocess.run(
            [pg_restore, "--exit-on-error", "-d", target.dbname_argument, plain],
            env={**target.libpq_environment(), "PGPASSWORD": target.password}, check=True,
        )  # fmt: skip
        assert row_hashes(target) == installation.hashes("test")
    finally:
        installation.server.drop_database(target.database)


def _make_clinic(installation: Installation, environment: str) -> None:
    installation.result("init_db", "--env", environment)
    installation.sql(
        environment,
        """
        CREATE SCHEMA clinic;
        CREATE TABLE clinic.patients (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
            initials text GENERATED ALWAYS AS (left(name, 2)) STORED, history jsonb,
            created_at timestamptz, updated_at timestamptz, created_by varchar(15),
            updated_by varchar(15));
        CREATE TABLE clinic.visits (
            id serial, patient bigint REFERENCES clinic.patients, at date NOT NULL,
            PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE clinic.visits_2025 PARTITION OF clinic.visits
            FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE clinic.visits_rest PARTITION OF clinic.visits DEFAULT;
        CREATE TABLE clinic.nothing ();
        INSERT INTO clinic.nothing DEFAULT VALUES;
        INSERT INTO clinic.patients (name, history)
            SELECT 'Zoë № ' || g, jsonb_build_object('allergies', g % 3)
              FROM generate_series(1, 2000) g;
        INSERT INTO clinic.visits (patient, at)
            SELECT 1 + g % 2000, DATE '2024-12-01' + g % 500 FROM generate_series(1, 5000) g;
        CREATE MATERIALIZED VIEW clinic.per_patient AS
            SELECT patient, count(*) AS visits FROM clinic.visits GROUP BY patient;
        SELECT lo_from_bytea(0, '\\x00ff'::bytea);
        """,
    )
    installation.result("apply_triggers", "--env", environment)
