"""Copies by every strategy and between every pair of servers: all of it arrives, or nothing."""

from __future__ import annotations

import pytest

from tests import servers
from tests.conftest import skip_or_fail
from tests.installation import Installation
from tests.odd import large_objects, make_odd

QUESTIONS = (
    "SELECT count(*) FROM public.by_year",
    "SELECT obj_description('public.people'::regclass)",
    "SELECT has_table_privilege('pg_monitor', 'public.people', 'SELECT')",
    """SELECT attacl::text FROM pg_attribute
        WHERE attrelid = 'public.people'::regclass AND attname = 'name'""",
    "SELECT count(*) FROM pg_publication_tables",
    "SELECT max(public.age(p)) FROM public.people p",
    "SELECT last_value FROM public.visits_id_seq",
    "SELECT count(*) FROM pg_constraint WHERE contype IN ('f', 'p') AND convalidated",
)


# Large enough for a process of its own to send it, in binary form and, for its last column, not.
LARGE = """
CREATE TABLE public.large AS SELECT g AS id, repeat(md5(g::text), 3) AS text, g / 7.0 AS number,
  timestamptz '2024-01-01' + g * interval '1 minute' AS at FROM generate_series(1, 60000) g;
CREATE TABLE public.large_by_name AS SELECT g AS id, repeat(md5(g::text), 3) AS text,
  'public.people'::regclass AS of_what FROM generate_series(1, 60000) g;
"""


@pytest.fixture
def odd18(installation18: Installation) -> Installation:
    return make_odd(installation18)


def _assert_equal(installation: Installation, source: str = "test", target: str = "dev") -> None:
    assert installation.hashes(target) == installation.hashes(source)
    assert large_objects(installation, target) == large_objects(installation, source)
    for question in QUESTIONS:
        assert installation.sql(target, question) == installation.sql(source, question), question


@pytest.mark.parametrize("strategy", ["template", "stream", "dump"])
def test_everything_odd_arrives(odd18: Installation, strategy: str) -> None:
    copied = odd18.result(
        "copy_db", "test", "dev", "--strategy", strategy, "--verify", "checksum", "--noinput"
    )
    assert copied["strategy"] == strategy
    assert copied["rows"] == odd18.result("dbbackup", "-d", "test")["rows"]
    _assert_equal(odd18)


@pytest.mark.parametrize(("source", "target"), [(15, 18), (16, 18), (15, 16), (18, 18)])
def test_between_servers(
    tmp_path_factory: pytest.TempPathFactory, source: int, target: int
) -> None:
    first = servers.server(source)
    second = servers.server(target, "b" if source == target else "")
    if first is None or second is None:
        skip_or_fail(f"PostgreSQL {source} or {target} is not installed")
    assert first is not None
    assert second is not None
    with Installation.create(first, tmp_path_factory.mktemp("home")) as installation:
        make_odd(installation)
        installation.sql("test", LARGE)
        installation.move("dev", second)
        copied = installation.result("copy_db", "test", "dev", "--strategy", "stream", "--noinput")
        assert "two servers" in copied["reason"] or copied["reason"] == "as asked"
        _assert_equal(installation)
        assert installation.result("copy_db", "test", "dev", "--noinput")["strategy"] == "dump"
        _assert_equal(installation)
