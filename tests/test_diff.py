"""What ``diff_db`` tells apart, and what it must not take for a difference."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2 import sql

from dbops.exceptions import OperationCancelled, PreflightError, StampError
from dbops.operations import difference
from dbops.operations.context import OperationContext
from dbops.operations.difference import DiffRequest, DiffResult, diff_databases
from dbops.operations.inspection import InspectRequest
from dbops.postgres import triggers
from dbops.postgres.connection import execute, session
from dbops.postgres.deparse import one_form
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import do_not_poll
from dbops.postgres.stamp import write_stamp
from dbops.postgres.structure import Definition, Identity, read_structure
from dbops.postgres.tools import find_tool
from tests.installation import Installation
from tests.servers import Server
from tests.test_triggers import HOSTILE_NAMES

BASE = r"""
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'happy');
CREATE TYPE app.pair AS (a int, b text);
CREATE TYPE app.span AS RANGE (subtype = float8);
CREATE DOMAIN app.zip AS text DEFAULT '0' CONSTRAINT short CHECK (length(VALUE) < 9);
CREATE SEQUENCE app.numbers;
CREATE TABLE app.people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(80) NOT NULL, zip app.zip,
    status varchar(9) DEFAULT 'new' CONSTRAINT known CHECK (status IN ('new', 'o''ld', 'x\y')),
    born date, json jsonb, length int GENERATED ALWAYS AS (length(name)) STORED);
CREATE INDEX people_born ON app.people (born) WHERE status NOT IN ('new', 'x');
CREATE INDEX people_json ON app.people USING gin (json);
CREATE STATISTICS app.people_stats ON name, born FROM app.people;
CREATE TABLE app.visits (id serial, person bigint REFERENCES app.people, at timestamptz NOT NULL,
    CONSTRAINT sane CHECK (at > '2000-01-01'), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE INDEX visits_at ON app.visits (at);
CREATE TABLE app.visits_2025 PARTITION OF app.visits
  FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.visits_later PARTITION OF app.visits DEFAULT;
CREATE TABLE app.parent (a int DEFAULT 1, b text);
CREATE TABLE app.child (c int) INHERITS (app.parent);
CREATE VIEW app.names AS SELECT name, upper(p.name) AS upper, ( SELECT max(v.at) FROM app.visits v
    WHERE v.person = p.id) AS last FROM app.people p WHERE p.born IS NOT NULL ORDER BY p.born;
CREATE VIEW app.both AS SELECT p.id, v.at FROM app.people p JOIN app.visits v ON v.person = p.id;
CREATE VIEW app.counts AS SELECT status, count(*) FROM app.people GROUP BY status
  HAVING count(*) > 1 UNION ALL SELECT 'x', 1;
CREATE VIEW app.groups AS SELECT status, count(*) FROM app.people GROUP BY 1;
CREATE VIEW app.nested AS WITH w AS (SELECT name FROM app.people)
  SELECT w.name, row_number() OVER (ORDER BY w.name) FROM w;
CREATE VIEW app.series AS SELECT g FROM generate_series(1, 3) g;
CREATE VIEW app.lists AS SELECT x.* FROM (VALUES (1, 'a'), (2, 'b')) AS x (n, t);
CREATE TABLE app.idioms (
    n int DEFAULT -1 CHECK (n BETWEEN -5 AND 5 AND n NOT IN (3, 4) OR n IS NULL),
    big bigint DEFAULT 5000000000 CHECK (big IN (1, 2, 5000000000)),
    price numeric(9, 2) DEFAULT 0 CHECK (price >= 0 AND price IN (1, 2.5)),
    code char(3) DEFAULT 'a' CHECK (code IN ('a', 'b')),
    word varchar(9) DEFAULT 'x' || 'y' CHECK (word IN ('only')),
    CHECK (word LIKE ANY (ARRAY['a%', 'b%']) AND lower(word) <> ALL ('{x,y}')),
    CHECK (word::text IN ('p', 'q') OR coalesce(word, code) ~* '^a' OR NOT word = 'z'),
    mood app.mood DEFAULT 'sad' CHECK (mood IN ('sad', 'happy')), tags text[] DEFAULT '{}',
    names varchar(5)[] DEFAULT ARRAY['a', 'b'], data jsonb DEFAULT '{"json": ["a"]}',
    at timestamptz DEFAULT now() + interval '1 day 2 hours', day date DEFAULT current_date,
    ts timestamp DEFAULT (now() AT TIME ZONE 'utc') CHECK (extract(year FROM ts) > 2000),
    span int4range DEFAULT '[1,2)', ok bool DEFAULT true, b bytea DEFAULT '\x00ff',
    EXCLUDE USING gist (span WITH &&) WHERE (word IN ('a', 'b')));
CREATE INDEX idioms_words ON app.idioms (upper(word), (data ->> 'json') DESC NULLS LAST)
  INCLUDE (n) WHERE word IN ('a', 'b') AND at > '2020-01-01 00:00+02';
CREATE VIEW app.kinds AS SELECT DISTINCT ON (word) word, CASE WHEN word IN ('a', 'b') THEN 1
  ELSE CASE n WHEN 1 THEN 2 END END AS c, count(*) FILTER (WHERE ok) OVER w AS f,
  "tags"[1] AS tag, (data -> 'json') AS "json" FROM ONLY app.idioms WHERE (n, big) < (1, 2)
  AND word NOT IN ('c', 'd') WINDOW w AS (PARTITION BY word ORDER BY n)
  ORDER BY word, n DESC LIMIT 5;
CREATE VIEW app.sub AS SELECT q.word, q.n + 1 AS n FROM (SELECT word, n FROM app.idioms) q;
CREATE VIEW app.used AS SELECT i.word, s.n, l.g FROM app.idioms i JOIN app.sub s USING (word)
  LEFT JOIN LATERAL (SELECT g FROM generate_series(1, i.n) g) AS l ON true;
CREATE VIEW app.sets AS SELECT word, code, sum(n) FROM app.idioms
  GROUP BY GROUPING SETS ((word), (code));
CREATE VIEW app.tree AS WITH RECURSIVE t (n) AS (VALUES (1)
  UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT n FROM t WHERE n IN (
  SELECT i.n FROM app.idioms i WHERE i.big = t.n) ORDER BY n;
CREATE VIEW app.whole AS SELECT i, i.word AS n, n AS word FROM app.idioms i ORDER BY i.n;
CREATE VIEW app.constant AS VALUES (1, 'a'::varchar), (2, 'b');
CREATE MATERIALIZED VIEW app.by_year AS
  SELECT extract(year FROM born) AS year, count(*) FROM app.people GROUP BY 1;
CREATE UNIQUE INDEX by_year_year ON app.by_year (year);
CREATE FUNCTION app.age(p app.people) RETURNS int LANGUAGE sql STABLE
  AS $$ SELECT extract(year FROM age(p.born))::int $$;
CREATE FUNCTION app.one() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT id FROM app.people; END;
CREATE PROCEDURE app.tidy(int) LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE AGGREGATE app.total(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER stamp BEFORE UPDATE ON app.people FOR EACH ROW
  WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION app.stamp();
CREATE TRIGGER stamp_visits BEFORE INSERT ON app.visits FOR EACH ROW EXECUTE FUNCTION app.stamp();
CREATE RULE no_delete AS ON DELETE TO app.parent DO INSTEAD NOTHING;
CREATE POLICY own ON app.people USING (name = CURRENT_USER);
CREATE PUBLICATION patients FOR TABLE app.people (id, name) WHERE (id > 1);
CREATE COLLATION app.plain (locale = 'C');
CREATE TEXT SEARCH CONFIGURATION app.words (COPY = pg_catalog.simple);
COMMENT ON TABLE app.people IS 'everyone';
COMMENT ON COLUMN app.names.name IS 'of a view';
CREATE TABLE public.django_migrations (id bigserial PRIMARY KEY, app text, name text);
INSERT INTO public.django_migrations (app, name) VALUES ('clinic', '0001_initial');
"""
# What is done to B, and what is then told: - only in A, + only in B, ~ changed.
CHANGES = [
    ("CREATE SCHEMA new CREATE TABLE t (id serial PRIMARY KEY)", "+ schema new"),
    ("CREATE TYPE app.colour AS ENUM ('red')", "+ type app.colour"),
    ("ALTER TYPE app.mood ADD VALUE 'angry' BEFORE 'sad'", "~ type app.mood"),
    ("ALTER TYPE app.pair ADD ATTRIBUTE c int", "~ type app.pair"),
    ("DROP TYPE app.span", "- type app.span"),
    ("ALTER DOMAIN app.zip SET DEFAULT '1'", "~ domain app.zip"),
    ("ALTER DOMAIN app.zip SET NOT NULL", "~ domain app.zip"),
    ("ALTER DOMAIN app.zip DROP CONSTRAINT short", "- constraint app.zip.short"),
    ("ALTER SEQUENCE app.numbers INCREMENT 5", "~ sequence app.numbers"),
    ("ALTER TABLE app.people ALTER id SET CACHE 5", "~ sequence app.people_id_seq"),
    ("CREATE TABLE app.new (id serial PRIMARY KEY, t text)", "+ table app.new"),
    ("DROP TABLE app.child", "- table app.child"),
    ("ALTER TABLE app.parent SET UNLOGGED", "~ table app.parent"),
    ("ALTER TABLE app.parent SET (fillfactor = 70)", "~ table app.parent"),
    ("ALTER TABLE app.parent SET (toast.autovacuum_enabled = off)", "~ table app.parent"),
    ("ALTER TABLE app.people ENABLE ROW LEVEL SECURITY", "~ table app.people"),
    ("ALTER TABLE app.people FORCE ROW LEVEL SECURITY", "~ table app.people"),
    ("ALTER TABLE app.people REPLICA IDENTITY FULL", "~ table app.people"),
    ("ALTER TABLE app.child NO INHERIT app.parent",
     "~ table app.child", "+ column app.child.a", "+ column app.child.b"),
    ("ALTER TABLE app.visits DETACH PARTITION app.visits_later", "~ table app.visits_later",
     "+ column app.visits_later.id", "+ column app.visits_later.person",
     "+ column app.visits_later.at", "+ constraint app.visits_later.visits_later_pkey",
     "+ constraint app.visits_later.visits_person_fkey", "+ constraint app.visits_later.sane",
     "+ index app.visits_later_at_idx"),
    ("ALTER TABLE app.people ADD note text", "+ column app.people.note"),
    ("ALTER TABLE app.people ADD nr serial", "+ column app.people.nr"),
    ("ALTER TABLE app.parent ALTER b TYPE varchar(90)", "~ column app.parent.b"),
    ("ALTER TABLE app.parent ALTER b TYPE text COLLATE \"C\"", "~ column app.parent.b"),
    ("ALTER TABLE app.people ALTER born SET NOT NULL", "~ column app.people.born"),
    ("ALTER TABLE app.parent ALTER a SET DEFAULT 2", "~ column app.parent.a"),
    ("ALTER TABLE ONLY app.parent ALTER a SET DEFAULT 2",
     "+ column app.child.a", "~ column app.parent.a"),
    ("ALTER TABLE app.people ALTER id SET GENERATED BY DEFAULT", "~ column app.people.id"),
    ("ALTER TABLE app.people ALTER id DROP IDENTITY",
     "~ column app.people.id", "- sequence app.people_id_seq"),
    ("ALTER TABLE app.people ALTER length DROP EXPRESSION", "~ column app.people.length"),
    ("ALTER TABLE app.people ALTER json SET STORAGE EXTERNAL", "~ column app.people.json"),
    ("ALTER TABLE app.people ALTER born SET STATISTICS 500", "~ column app.people.born"),
    ("ALTER VIEW app.names ALTER name SET DEFAULT 'x'", "+ column app.names.name"),
    ("ALTER TABLE app.people DROP CONSTRAINT known", "- constraint app.people.known"),
    ("ALTER TABLE app.visits ALTER CONSTRAINT visits_person_fkey DEFERRABLE",
     "~ constraint app.visits.visits_person_fkey"),
    ("ALTER TABLE app.people ADD CHECK (born > '1900-01-01') NOT VALID",
     "+ constraint app.people.people_born_check"),
    ("ALTER TABLE app.visits DROP CONSTRAINT sane", "- constraint app.visits.sane"),
    ("ALTER TABLE app.people ADD UNIQUE (name)", "+ constraint app.people.people_name_key"),
    ("ALTER TABLE app.people CLUSTER ON people_pkey", "~ constraint app.people.people_pkey"),
    ("CREATE INDEX new ON app.people (lower(name))", "+ index app.new"),
    ("DROP INDEX app.visits_at", "- index app.visits_at"),
    ("ALTER INDEX app.people_json SET (fastupdate = off)", "~ index app.people_json"),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.people_born'::regclass",
     "~ index app.people_born"),
    ("CREATE VIEW app.new AS SELECT 1 AS one", "+ view app.new"),
    ("ALTER VIEW app.names SET (security_barrier)", "~ view app.names"),
    ("CREATE OR REPLACE VIEW app.both AS SELECT v.person AS id, v.at FROM app.people p "
     "JOIN app.visits v ON v.person = p.id", "~ view app.both"),
    ("DROP MATERIALIZED VIEW app.by_year", "- materialised view app.by_year"),
    ("CREATE FUNCTION app.age(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
     "+ function app.age(integer)"),
    ("ALTER FUNCTION app.age(app.people) IMMUTABLE", "~ function app.age(app.people)"),
    ("CREATE OR REPLACE PROCEDURE app.tidy(int) LANGUAGE plpgsql AS $$ BEGIN END $$",
     "~ procedure app.tidy(integer)"),
    ("CREATE OR REPLACE AGGREGATE app.total(int) (sfunc = int4pl, stype = int, initcond = '1')",
     "~ aggregate app.total(integer)"),
    ("DROP TRIGGER stamp ON app.people", "- trigger app.people.stamp"),
    ("ALTER TABLE app.people DISABLE TRIGGER stamp", "~ trigger app.people.stamp"),
    ("ALTER TABLE app.visits_2025 DISABLE TRIGGER stamp_visits",
     "+ trigger app.visits_2025.stamp_visits"),
    ("DROP RULE no_delete ON app.parent", "- rule app.parent.no_delete"),
    ("ALTER TABLE app.parent DISABLE RULE no_delete", "~ rule app.parent.no_delete"),
    ("ALTER POLICY own ON app.people USING (true)", "~ policy app.people.own"),
    ("ALTER STATISTICS app.people_stats SET STATISTICS 9", "~ statistics app.people_stats"),
    ("DROP STATISTICS app.people_stats", "- statistics app.people_stats"),
    ("ALTER PUBLICATION patients SET (publish = 'insert')", "~ publication patients"),
    ("ALTER PUBLICATION patients SET TABLE app.people", "~ publication patients"),
    ("CREATE PUBLICATION everything FOR ALL TABLES", "+ publication everything"),
    ("CREATE FUNCTION app.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; "
     "CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION app.e()",
     "+ event trigger watch", "+ function app.e()"),
    ("DROP COLLATION app.plain", "- collation app.plain"),
    ("CREATE OPERATOR app.=== (leftarg = int, rightarg = int, procedure = int4eq)",
     "+ operator app.===(integer,integer)"),
    ("CREATE CAST (app.mood AS app.zip) WITH INOUT", "+ cast (app.mood AS app.zip)"),
    ("ALTER TEXT SEARCH CONFIGURATION app.words DROP MAPPING FOR email",
     "~ text search configuration app.words"),
    ("COMMENT ON TABLE app.people IS 'nobody'", "~ comment table app.people"),
    ("COMMENT ON TABLE app.people IS NULL", "- comment table app.people"),
    ("COMMENT ON COLUMN app.people.name IS 'x'", "+ comment column app.people.name"),
    ("COMMENT ON COLUMN app.names.name IS NULL", "- comment column app.names.name"),
    ("COMMENT ON SCHEMA app IS 'x'", "+ comment schema app"),
    ("COMMENT ON FUNCTION app.one() IS 'x'", "+ comment function app.one()"),
    ("COMMENT ON TYPE app.mood IS 'x'", "+ comment type app.mood"),
    ("GRANT SELECT ON app.people TO PUBLIC", "+ grants table app.people"),
    ("REVOKE UPDATE ON app.people FROM CURRENT_USER", "+ grants table app.people"),
    ("GRANT UPDATE (name) ON app.people TO PUBLIC", "+ grants column app.people.name"),
    ("REVOKE EXECUTE ON FUNCTION app.one() FROM PUBLIC", "+ grants function app.one()"),
    ("GRANT EXECUTE ON PROCEDURE app.tidy(int) TO pg_monitor WITH GRANT OPTION",
     "+ grants procedure app.tidy(integer)"),
    ("GRANT USAGE ON SCHEMA app TO PUBLIC", "+ grants schema app"),
    ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "- grants schema public"),
    ("GRANT USAGE ON SEQUENCE app.numbers TO pg_monitor", "+ grants sequence app.numbers"),
    ("REVOKE USAGE ON TYPE app.mood FROM PUBLIC", "+ grants type app.mood"),
    ("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET quote_all_identifiers = on',"
     " current_database()); END $$", "+ setting quote_all_identifiers"),
    ("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = ''German''',"
     " current_database()); END $$", "+ setting DateStyle"),
    ("DO $$ BEGIN EXECUTE format('ALTER ROLE skinspire_app IN DATABASE %I SET work_mem = ''9MB''',"
     " current_database()); END $$", "+ setting work_mem for skinspire_app"),
    ("INSERT INTO public.django_migrations (app, name) VALUES ('clinic', '0002_more')",
     "+ migration clinic.0002_more"),
    ("DELETE FROM public.django_migrations", "- migration clinic.0001_initial"),
]  # fmt: skip
# What is no difference.
SAME = [
    "SELECT 1",
    "INSERT INTO app.people (name) VALUES ('x')",
    "SELECT setval('app.numbers', 99)",
    "ALTER TABLE app.parent ADD gone int; ALTER TABLE app.parent DROP gone",
    "ALTER TABLE app.people DROP born CASCADE; ALTER TABLE app.people ADD born date;"
    "CREATE INDEX people_born ON app.people (born) WHERE status NOT IN ('new', 'x');"
    "CREATE STATISTICS app.people_stats ON name, born FROM app.people;"
    "CREATE VIEW app.names AS SELECT name, upper(p.name) AS upper, ( SELECT max(v.at)"
    " FROM app.visits v WHERE v.person = p.id) AS last FROM app.people p"
    " WHERE p.born IS NOT NULL ORDER BY p.born;"
    "COMMENT ON COLUMN app.names.name IS 'of a view';"
    "CREATE MATERIALIZED VIEW app.by_year AS"
    " SELECT extract(year FROM born) AS year, count(*) FROM app.people GROUP BY 1;"
    "CREATE UNIQUE INDEX by_year_year ON app.by_year (year)",
    "GRANT ALL ON app.people TO CURRENT_USER",
    "GRANT SELECT ON app.people TO PUBLIC; REVOKE SELECT ON app.people FROM PUBLIC",
    "CREATE TEMPORARY TABLE people (id int)",
    "CREATE SCHEMA skinspire CREATE TABLE stamp (environment text)",
    "REFRESH MATERIALIZED VIEW app.by_year",
    "ANALYZE",
]

TABLES = """DO $$ BEGIN FOR i IN {first}..{last} LOOP
    EXECUTE format('CREATE TABLE public.t%s (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
        name varchar(80) NOT NULL, a int DEFAULT 1 CHECK (a > 0), b date)', i);
    EXECUTE format('CREATE INDEX ON public.t%s (name)', i);
  END LOOP; END $$"""


@pytest.fixture(scope="module")
def base(server: Server) -> Iterator[ConnectionParams]:
    params = server.superuser.with_database(server.create_database().database)
    run(params, BASE)
    yield params
    server.drop_database(params.database)


@pytest.fixture
def twin(server: Server, base: ConnectionParams) -> Iterator[ConnectionParams]:
    """A copy of the base, on which everything is allowed."""
    name = base.database + "_twin"
    with session(server.superuser) as control:
        execute(
            control,
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(base.database)
            ),
        )
    yield server.superuser.with_database(name)
    server.drop_database(name)


def diff(a: ConnectionParams, b: ConnectionParams) -> DiffResult:
    request = DiffRequest(InspectRequest("test", a), InspectRequest("dev", b))
    return diff_databases(request, OperationContext(""))


def told(result: DiffResult) -> set[str]:
    return {
        *(f"- {kind} {name}" for kind, name in result.only_in_a),
        *(f"+ {kind} {name}" for kind, name in result.only_in_b),
        *(f"~ {change.identity.kind} {change.identity.name}" for change in result.changed),
    }


def run(params: ConnectionParams, statement: str) -> None:
    with session(params) as connection:
        execute(connection, statement)


@pytest.mark.parametrize("statement", SAME, ids=lambda statement: statement[:60])
def test_what_is_no_difference(
    base: ConnectionParams, twin: ConnectionParams, statement: str
) -> None:
    run(twin, statement)
    assert told(diff(base, twin)) == set()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[0][:60])
def test_each_difference_is_told_once(
    base: ConnectionParams, twin: ConnectionParams, change: tuple[str, ...]
) -> None:
    statement, *expected = change
    run(twin, statement)
    assert told(diff(base, twin)) == set(expected)
    swapped = {line.translate({ord("+"): "-", ord("-"): "+"}) for line in expected}
    assert told(diff(twin, base)) == swapped


def test_what_an_extension_brings_is_its_own(installation15: Installation) -> None:
    server, databases = installation15.server, installation15.databases
    dev = server.superuser.with_database(databases["dev"].database)
    run(dev, "CREATE SCHEMA tools; CREATE EXTENSION citext SCHEMA tools")
    assert told(diff(databases["test"], dev)) == {"+ extension citext", "+ schema tools"}
    run(databases["test"], "CREATE SCHEMA tools")
    assert told(diff(databases["test"], dev)) == {"+ extension citext"}


def test_one_schema_on_two_versions(
    server18: Server, installation15: Installation, shared_data: Path
) -> None:
    """The same script and the same dump, in PostgreSQL 15 and 18; and what 18 has alone."""
    older, newer = installation15.server, server18
    ends = [it.superuser.with_database(it.create_database().database) for it in (older, newer)]
    try:
        for server, params in zip((older, newer), ends, strict=True):
            run(params, BASE)
            run(params, "GRANT ALL ON app.people TO pg_monitor")
            _pg_restore(server, params, shared_data / "pagila/pagila.dump")
        result = diff(*ends)
        assert told(result) == set(), result.changed
        run(ends[1], "ALTER TABLE app.parent ADD CONSTRAINT c NOT NULL b NOT VALID")
        assert told(diff(*ends)) == {"~ column app.parent.b"}
        run(ends[0], "ALTER TABLE app.parent ALTER b SET NOT NULL")
        assert told(diff(*ends)) == {"~ column app.parent.b"}
        run(ends[1], "ALTER TABLE app.parent VALIDATE CONSTRAINT c")
        assert told(diff(*ends)) == set()
    finally:
        older.drop_database(ends[0].database)
        newer.drop_database(ends[1].database)


def _pg_restore(server: Server, params: ConnectionParams, dump: Path) -> None:
    subprocess.run(
        [find_tool("pg_restore", server.major), "--no-owner", "--no-privileges",
         "--exit-on-error", "-d", params.dbname_argument, dump],
        env={**params.libpq_environment(), "PGPASSWORD": params.password}, check=True,
    )  # fmt: skip


def test_a_dump_read_back_is_the_same(
    server: Server, base: ConnectionParams, tmp_path: Path
) -> None:
    """What the server writes of a definition is not what it writes once it has read that."""
    environment = {**base.libpq_environment(), "PGPASSWORD": base.password}
    subprocess.run(
        [find_tool("pg_dump", server.major), "-Fc", "-d", base.dbname_argument, "-f",
         tmp_path / "dump"],
        env=environment, check=True,
    )  # fmt: skip
    params = server.superuser.with_database(server.create_database().database)
    try:
        _pg_restore(server, params, tmp_path / "dump")
        result = diff(base, params)
        assert told(result) == set(), result.changed
    finally:
        server.drop_database(params.database)


@pytest.mark.parametrize("strategy", ["template", "stream", "dump"])
def test_clean_after_a_copy(installation: Installation, strategy: str) -> None:
    installation.result("init_db", "--env", "test")
    for statement in (
        'CREATE TABLE public."Ta""ble; --" (id bigserial PRIMARY KEY, "co.l" varchar(9)'
        " CHECK (\"co.l\" IN ('a', 'b')), created_at timestamptz, updated_by text)",
        'CREATE VIEW public.shown AS SELECT "co.l" FROM public."Ta""ble; --"',
    ):
        installation.sql("test", statement)
    installation.run("apply_triggers", "--env", "test")
    drifted = installation.run("diff_db", "test", "dev", "--json", code=1).json
    assert drifted["error"]["code"] == "drift"
    assert {"kind": "view", "name": "public.shown"} in drifted["result"]["only_in_a"]
    installation.result("copy_db", "test", "dev", "--strategy", strategy, "--noinput")
    clean = installation.result("diff_db", "testing", "development")
    assert clean == {"only_in_a": [], "only_in_b": [], "changed": []}
    assert "defined alike" in installation.run("diff_db", "test", "dev").out


def test_the_answer(installation18: Installation) -> None:
    """Readable, with what differs in a changed definition; nothing recorded, nothing locked."""
    for environment in ("test", "dev"):
        installation18.sql(
            environment,
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS E'SELECT 1;\nSELECT 2'",
        )
    installation18.sql("test", 'CREATE TABLE public."e\x1b[31m\u202e" (id int)')
    installation18.sql(
        "dev",
        "CREATE TABLE public.t (id int); CREATE OR REPLACE FUNCTION public.f() RETURNS int"
        " LANGUAGE sql AS E'SELECT 1;\nSELECT 3'",
    )
    answer = installation18.run("diff_db", "test", "dev", code=1)
    assert answer.out.splitlines() == [
        "function", "  ~ public.f()", "      -SELECT 2$function$", "      +SELECT 3$function$",
        "table", '  - public."e\\x1b[31m\\u202e"', "  + public.t",
    ]  # fmt: skip
    assert "dev differs from test: 1 only in test, 1 only in dev, 1 changed." in answer.err
    result = installation18.run("diff_db", "test", "dev", "--json", code=1).json["result"]
    assert result["only_in_b"] == [{"kind": "table", "name": "public.t"}]
    changed = result["changed"][0]
    assert (changed["kind"], changed["name"]) == ("function", "public.f()")
    assert "SELECT 2" in changed["a"]
    assert "SELECT 3" in changed["b"]
    assert installation18.result("operations")["operations"] == []


def test_what_is_refused(installation18: Installation) -> None:
    error = installation18.refused("diff_db", "dev", "development", code=2)
    assert "itself" in error["message"]
    installation18.refused("diff_db", "dev", "nowhere", code=2)
    test, dev = installation18.databases["test"], installation18.databases["dev"]
    with session(test) as connection:
        write_stamp(connection, "prod")
    with pytest.raises(StampError):
        diff(test, dev)
    with pytest.raises(PreflightError, match="does not exist"):
        diff(dev, dev.with_database("no_such_database"))
    context = OperationContext("")
    context.cancelled.set()
    ends = DiffRequest(InspectRequest("prod", test), InspectRequest("dev", dev))
    with pytest.raises(OperationCancelled):
        diff_databases(ends, context)


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "a.b", "json", "user", "UPPER"])
def test_hostile_names(
    server: Server, base: ConnectionParams, twin: ConnectionParams, name: str
) -> None:
    """Under any name each object is told once, and none is taken for another."""
    with session(twin) as connection:
        column, table = sql.Identifier(name), sql.Identifier("app", name)
        for statement in (
            "CREATE TABLE {table} ({column} varchar(9) CHECK ({column} IN ('a', 'b')), b int)",
            "CREATE VIEW app.seen AS SELECT {column} FROM {table}",
            "CREATE INDEX shown ON {table} ({column})",
            "COMMENT ON COLUMN {table}.{column} IS 'x'",
        ):
            execute(connection, sql.SQL(statement).format(column=column, table=table))
    [first, second] = diff(base, twin).only_in_b
    assert (first.kind, second) == ("table", ("view", "app.seen"))
    quoted = first.name.removeprefix("app.")
    assert quoted == (name if name in ("json", "user") or set(name) == {"x"} else
                      '"' + name.replace('"', '""') + '"')  # fmt: skip
    with session(twin) as connection:
        found = read_structure(connection, do_not_poll)
    assert found[Identity("column", f"app.{quoted}.{quoted}")].within == first
    assert Identity("comment", f"column app.{quoted}.{quoted}") in found


def test_our_own_triggers(installation: Installation) -> None:
    """Told by table and state; what is behind on both sides alike is no difference."""
    test, dev = installation.databases["test"], installation.databases["dev"]
    for params in (test, dev):
        run(params, "CREATE TABLE public.t (created_at timestamptz, created_by text);"
                    "CREATE TABLE public.p (updated_at date, at date) PARTITION BY LIST (at);"
                    "CREATE TABLE public.p1 PARTITION OF public.p DEFAULT")  # fmt: skip
        with session(params) as connection:
            triggers.install(connection, poll=do_not_poll)
    assert told(diff(test, dev)) == set()
    run(dev, "ALTER TABLE public.t DISABLE TRIGGER skinspire_actors;"
             "DROP TRIGGER skinspire_timestamps ON public.p")  # fmt: skip
    result = diff(test, dev)
    assert told(result) == {
        "~ trigger public.t.skinspire_actors", "- trigger public.p.skinspire_timestamps",
    }  # fmt: skip
    assert result.changed[0].a == "installed"
    assert result.changed[0].b.startswith("disabled\n")
    for params in (test, dev):
        run(params, "COMMENT ON TRIGGER skinspire_timestamps ON public.t IS 'skinspire:old'")
    assert len(told(diff(test, dev))) == 2
    run(dev, "COMMENT ON TRIGGER skinspire_timestamps ON public.t IS 'skinspire:older'")
    assert "~ trigger public.t.skinspire_timestamps" in told(diff(test, dev))
    run(dev, "DROP TABLE public.t")
    assert "- table public.t" in told(diff(test, dev))
    assert not any("public.t.skinspire" in line for line in told(diff(test, dev)))


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("constraint", "ANY ((ARRAY['a'::character varying, 'it''s, x'::text])::text[])",
         "ANY (ARRAY[('a'::character varying)::text, ('it''s, x'::text)::text])"),
        ("constraint", "ANY (ARRAY['a'::app.mood])", "ANY (ARRAY['a'::app.mood])"),
        ("constraint", "CHECK ((((a >= 1) AND (a <= 5)) AND ((b) OR (')' = c))))",
         "CHECK (((a >= 1) AND (a <= 5) AND ((b) OR (')' = c))))"),
        ("constraint", "CHECK ((f((a AND b)) AND (c OR d) AND (NOT (e AND f))))", ...),
        ("index", 't."json" t."Json"', 't.json t."Json"'),
        ("function", "AS $$ IF ((a AND b) AND c) -- don't", ...),
        ("view", "SELECT t.a FROM app.t;", "SELECT a FROM app.t;"),
        ("view", "SELECT t.a AS t FROM t.t WHERE (t.b = 't.x'::text);",
         "SELECT a AS t FROM t.t WHERE (b = 't.x'::text);"),
        ("view", 'SELECT "T".a FROM app.t "T";', 'SELECT a FROM app.t "T";'),
        ("view", "SELECT t.a FROM app.t WHERE (EXISTS ( SELECT 1 FROM app.u WHERE (u.a = t.a)));",
         "SELECT a FROM app.t WHERE (EXISTS ( SELECT 1 FROM app.u WHERE (u.a = t.a)));"),
        ("view", "SELECT t.* FROM app.t;", ...),
        ("view", "SELECT t.f(1) FROM app.t;", ...),
        ("view", "SELECT t.a FROM app.t, app.u;", ...),
        ("view", "SELECT t.a FROM (app.t JOIN app.u ON ((t.a = u.a)));", ...),
        ("view", "SELECT t.a FROM app.t UNION SELECT u.a FROM app.u;", ...),
        ("view", "SELECT 1 AS one;", ...),
    ],
)  # fmt: skip
def test_one_form(kind: str, before: str, after: str) -> None:
    expected = before if after is ... else after
    assert one_form(kind, before) == expected
    assert one_form(kind, expected) == expected


def test_ten_thousand_tables(server: Server) -> None:
    """Read in few queries: what 2,000 tables take is in proportion to what 200 take."""
    params = server.create_database()
    try:
        seconds = []
        with session(params) as connection:
            for first, last in ((1, 200), (201, 2000)):
                execute(connection, TABLES.format(first=first, last=last))
                read_structure(connection, do_not_poll)
                start = time.monotonic()
                found = read_structure(connection, do_not_poll)
                seconds.append(time.monotonic() - start)
        assert len([it for it in found if it.kind == "table"]) == 2000
        assert seconds[1] < 25 * max(seconds[0], 0.02)
    finally:
        server.drop_database(params.database)


def test_extensions_of_two_versions() -> None:
    """Each server's default version of an extension is the same one; any other is a difference."""

    def read(major: int, text: str) -> difference._Read:
        return difference._Read({Identity("extension", "citext"): Definition(text, None)}, major)

    def differ(a: difference._Read, b: difference._Read) -> bool:
        left, right = difference._comparable(a, b)
        return left != right

    old = read(15, "version 1.6 (default)\nschema public")
    assert not differ(old, read(18, "version 1.8 (default)\nschema public"))
    assert differ(old, read(18, "version 1.6\nschema public"))
    assert differ(old, read(18, "version 1.8 (default)\nschema tools"))
    assert differ(old, read(15, "version 1.7 (default)\nschema public"))
    assert not differ(old, read(15, "version 1.6\nschema public"))
