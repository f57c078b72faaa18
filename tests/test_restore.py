"""Restores in all their forms: everything arrives, or nothing changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dbops.exceptions import SpaceError
from dbops.operations.guards import Preflight
from dbops.postgres.connection import execute, fetch_all, session
from dbops.postgres.databases import free_space, server_facts
from dbops.postgres.tools import find_tool
from tests.installation import Installation, reached_as, row_hashes
from tests.odd import large_objects, make_odd, quoted_database
from tests.servers import Server


@pytest.fixture
def odd(installation: Installation) -> Installation:
    """test holds everything that dumps have been known to lose."""
    return make_odd(installation)


@pytest.fixture
def odd18(installation18: Installation) -> Installation:
    """The same on one server, for what does not depend on the version."""
    return make_odd(installation18)


def test_everything_odd_arrives(odd: Installation) -> None:
    """Fault 24: rows, definitions, grants and large objects are equal on comparison."""
    backup = odd.result("dbbackup", "-d", "test", "--checksums")
    result = odd.result("dbrestore", "-d", "dev", "-i", backup["name"], "--noinput", "--jobs", "3")
    assert result["rows"] == backup["rows"]
    assert odd.hashes("dev") == odd.hashes("test")
    assert large_objects(odd, "dev") == large_objects(odd, "test")
    for question in (
        "SELECT count(*) FROM public.by_year",
        "SELECT obj_description('public.people'::regclass)",
        "SELECT relacl::text FROM pg_class WHERE oid = 'public.people'::regclass",
        """SELECT attacl::text FROM pg_attribute
            WHERE attrelid = 'public.people'::regclass AND attname = 'name'""",
        "SELECT count(*) FROM pg_publication_tables",
        "SELECT max(public.age(p)) FROM public.people p",
        "SELECT last_value FROM public.visits_id_seq",
    ):
        assert odd.sql("dev", question) == odd.sql("test", question), question
    full = odd.result("verify_backup", backup["name"], "--full")
    assert full["verified"] is True
    assert {check["name"] for check in full["checks"]} >= {
        "signature", "checksum", "rows", "structure", "sequences", "triggers", "checksums",
        "grants",
    }  # fmt: skip
    listed = odd.result("listbackups")["backups"][0]
    assert (listed["verified_how"], odd.scratch()) == ("full", [odd.scratch()[0]])


def test_a_new_database_gets_what_the_dump_leaves_out(odd: Installation) -> None:
    odd.sql("test", f"COMMENT ON DATABASE {quoted_database(odd, 'test')} IS 'the clinic'")
    backup = odd.result("dbbackup", "-d", "test")
    new = odd.databases["test"].database + "_check"
    try:
        result = odd.result("dbrestore", "-d", "test", "-i", backup["name"], "--into", new)
        assert (result["database"], result["previous"]) == (new, None)
        params = odd.databases["test"].with_database(new)
        assert row_hashes(params) == odd.hashes("test")
        with session(odd.server.params) as control:
            facts = fetch_all(
                control,
                """SELECT shobj_description(d.oid, 'pg_database'), setconfig
                     FROM pg_database d JOIN pg_db_role_setting s ON s.setdatabase = d.oid
                    WHERE datname = %s""",
                [new],
            )
        assert facts == [("the clinic", ['search_path="Ö dd", public'])]
        error = odd.refused("dbrestore", "-d", "test", "-i", backup["name"], "--into", new)
        assert "already" in error["message"]
    finally:
        odd.server.drop_database(new)


def test_one_table_is_put_back_and_nothing_else_moves(odd: Installation) -> None:
    """The living database goes on; cascades and triggers are not set off."""
    odd.sql(
        "test",
        """CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN NEW.name := 'TRIGGERED'; RETURN NEW; END $$;
           CREATE TRIGGER shout BEFORE INSERT ON public.people FOR EACH ROW
             EXECUTE FUNCTION public.shout()""",
    )
    before = odd.hashes("test")
    backup = odd.result("dbbackup", "-d", "test")
    odd.sql("test", "UPDATE public.people SET name = 'lost' WHERE id < 100")
    odd.sql("test", "INSERT INTO public.visits (person, at) VALUES (3, '2025-03-03')")
    visits = odd.sql("test", "SELECT count(*) FROM public.visits")
    result = odd.result(
        "dbrestore", "-d", "test", "-i", backup["name"], "--table", "people", "--noinput"
    )
    assert (result["rows"], result["tables"], result["previous"]) == (500, 1, None)
    after = odd.hashes("test")
    assert after["public.people"] == before["public.people"]
    assert odd.sql("test", "SELECT count(*) FROM public.visits") == visits
    assert odd.sql("test", "SELECT tgenabled FROM pg_trigger WHERE tgname = 'shout'") == "O"
    assert odd.sql("test", "SELECT convalidated FROM pg_constraint WHERE contype = 'f' LIMIT 1")
    # What was replaced is a backup of that table.
    saved = result["saved_as"]
    undone = odd.result("dbrestore", "-d", "test", "-i", saved, "--table", "people", "--noinput")
    assert undone["rows"] == 500
    assert odd.sql("test", "SELECT count(*) FROM public.people WHERE name = 'lost'") == 99
    assert odd.scratch() == []


def test_a_reference_to_nothing_refuses_the_table(odd: Installation) -> None:
    backup = odd.result("dbbackup", "-d", "test")
    odd.sql("test", "INSERT INTO public.people (name) VALUES ('new')")
    odd.sql("test", "INSERT INTO public.visits (person, at) VALUES (501, '2025-03-03')")
    before = odd.hashes("test")
    error = odd.refused(
        "dbrestore", "-d", "test", "-i", backup["name"], "--table", "public.people", "--noinput"
    )
    assert "refer to rows" in error["message"]
    assert odd.hashes("test") == before
    assert odd.scratch() == []


def test_a_table_that_is_gone_comes_back_whole(odd: Installation) -> None:
    before = odd.hashes("test")
    backup = odd.result("dbbackup", "-d", "test")
    odd.sql("test", "DROP MATERIALIZED VIEW public.by_year")
    odd.sql("test", 'DROP VIEW "Ö dd".names')
    odd.sql("test", "DROP FUNCTION public.age; DROP TABLE public.people CASCADE")
    odd.result("dbrestore", "-d", "test", "-i", backup["name"], "--table", "people", "--noinput")
    assert odd.hashes("test")["public.people"] == before["public.people"]
    keys = odd.sql(
        "test",
        """SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
              AND confrelid = 'public.people'::regclass""",
    )
    assert keys == 1
    assert odd.sql("test", "SELECT count(*) FROM pg_indexes WHERE indexname = 'people_upper'") == 1


def test_other_columns_are_named(odd: Installation) -> None:
    backup = odd.result("dbbackup", "-d", "test")
    odd.sql("test", "ALTER TABLE public.moods ADD COLUMN later int")
    error = odd.refused(
        "dbrestore", "-d", "test", "-i", backup["name"], "--table", "moods", "--noinput"
    )
    assert "later" in error["message"]
    wrong = odd.refused(
        "dbrestore", "-d", "test", "-i", backup["name"], "--table", "mood", "--noinput"
    )
    assert "public.moods" in wrong["hint"]


def test_a_schema_is_put_back(odd: Installation) -> None:
    before = odd.hashes("test")
    backup = odd.result("dbbackup", "-d", "test")
    odd.sql("test", 'DROP VIEW "Ö dd".names')
    odd.sql("test", 'DELETE FROM "Ö dd"."ta""ble; --"')
    restore = ["dbrestore", "-d", "test", "-i", backup["name"], "--schema", "Ö dd", "--noinput"]
    assert odd.result(*restore)["tables"] == 1
    assert odd.hashes("test") == before
    assert odd.sql("test", 'SELECT count(*) FROM "Ö dd".names') == 500
    odd.sql("test", 'CREATE VIEW public.onto AS SELECT * FROM "Ö dd".names')
    refused = odd.refused(*restore)
    assert "onto" in refused["message"]
    assert odd.sql("test", "SELECT count(*) FROM public.onto") == 500


def test_in_place_without_createdb(odd: Installation) -> None:
    backup = odd.result("dbbackup", "-d", "test")
    before = odd.hashes("test")
    odd.sql("test", "DELETE FROM public.visits; CREATE TABLE public.later (id int)")
    with reached_as(odd, "NOCREATEDB"):
        restore = ["dbrestore", "-d", "test", "-i", backup["name"], "--noinput"]
        assert "--in-place" in odd.refused(*restore)["hint"]
        result = odd.result(*restore, "--in-place")
    assert odd.hashes("test") == before
    assert odd.sql("test", "SELECT to_regclass('public.later')") is None
    assert result["saved_as"] in {it["name"] for it in odd.result("listbackups")["backups"]}


def test_in_place_that_fails_changes_nothing(odd: Installation, tmp_path: Path) -> None:
    before = odd.hashes("test")
    broken = tmp_path / "broken.sql"
    broken.write_text("CREATE TABLE public.x (id int); SELECT 1 / 0;")
    odd.refused("dbrestore", "-d", "test", "-I", str(broken), "--in-place", "--noinput")
    assert odd.hashes("test") == before


def test_an_undo_passes_over_what_was_rolled_back(odd18: Installation, tmp_path: Path) -> None:
    """A failed restore in place has a backup of what was there, and replaced nothing."""
    name = odd18.result("dbbackup", "-d", "test")["name"]
    odd18.sql("test", "DELETE FROM public.visits")
    before = odd18.hashes("test")
    restore = odd18.run("dbrestore", "-d", "test", "-i", name, "--noinput", "--json").json
    broken = tmp_path / "broken.sql"
    broken.write_text("SELECT 1 / 0;")
    odd18.refused("dbrestore", "-d", "test", "-I", str(broken), "--in-place", "--noinput")
    undone = odd18.run("undo_operation", "--noinput")
    assert f"The latest that replaced something: Restore test ({restore['operation']['id']})" in (
        undone.err
    )
    assert odd18.hashes("test") == before


FORMS = [("custom", ""), ("custom", "gzip"), ("directory", ""), ("tar", ""), ("tar", "zstd"),
         ("plain", ""), ("plain", "gzip"), ("plain", "zstd")]  # fmt: skip


@pytest.mark.parametrize(("form", "packed"), FORMS)
def test_foreign_dumps_in_every_format(
    odd18: Installation, tmp_path: Path, form: str, packed: str
) -> None:
    dump = tmp_path / f"dump.{form}"
    source = odd18.databases["test"]
    environment = {**source.libpq_environment(), "PGPASSWORD": source.password}
    subprocess.run(
        [find_tool("pg_dump", 18), f"--format={form}", "--schema=public", "--schema=skinspire",
         "--no-publications", "--file", dump], env=environment, check=True,
    )  # fmt: skip
    if packed:
        data = dump.read_bytes()
        dump = dump.with_suffix(f".{form}.packed")
        dump.write_bytes(_packed(packed, data))
    result = odd18.result("dbrestore", "-d", "dev", "-I", str(dump), "--noinput")
    assert result["rows"] > 1000
    wanted = {name: value for name, value in odd18.hashes("test").items() if "dd" not in name}
    assert {k: v for k, v in odd18.hashes("dev").items() if k in wanted} == wanted


def _packed(how: str, data: bytes) -> bytes:
    if how == "gzip":
        import gzip

        half = len(data) // 2  # as parallel compressors do: several members in one file
        return gzip.compress(data[:half]) + gzip.compress(data[half:])
    import zstandard

    return zstandard.ZstdCompressor().compress(data)


def test_missing_roles_are_named_and_mapped_only_when_asked(odd: Installation) -> None:
    """Fault 18: a role the server lacks."""
    with session(odd.server.superuser) as control:
        execute(control, "CREATE ROLE reception_x")
        try:
            odd.sql("test", "GRANT SELECT ON public.people TO reception_x")
            backup = odd.result("dbbackup", "-d", "test")
        finally:
            with session(odd.server.superuser.with_database(odd.databases["test"].database)) as it:
                execute(it, "DROP OWNED BY reception_x")
            execute(control, "DROP ROLE reception_x")
    restore = ["dbrestore", "-d", "dev", "-i", backup["name"], "--noinput"]
    error = odd.refused(*restore)
    assert "reception_x" in error["message"]
    assert "--no-owner" in error["hint"]
    odd.result(*restore, "--no-owner")
    assert odd.hashes("dev") == odd.hashes("test")
    assert odd.result("verify_backup", backup["name"], "--full")["verified"] is True


def test_event_triggers_need_a_superuser_or_are_left_out_knowingly(odd: Installation) -> None:
    database = odd.databases["test"].database
    with session(odd.server.superuser.with_database(database)) as it:
        execute(it, """CREATE FUNCTION public.noted() RETURNS event_trigger LANGUAGE plpgsql
                       AS $$ BEGIN END $$""")  # fmt: skip
        execute(
            it, "CREATE EVENT TRIGGER noting ON ddl_command_end EXECUTE FUNCTION public.noted()"
        )
        execute(it, "COMMENT ON EVENT TRIGGER noting IS 'x'")
        execute(it, "ALTER FUNCTION public.noted() OWNER TO " + odd.server.params.user)
        execute(it, "CREATE PUBLICATION everything FOR ALL TABLES")
    backup = odd.result("dbbackup", "-d", "test")
    restore = ["dbrestore", "-d", "dev", "-i", backup["name"], "--noinput"]
    error = odd.refused(*restore)
    assert "event trigger noting" in error["message"]
    assert "publication everything" in error["message"]
    odd.result(*restore, "--skip-privileged")
    assert odd.hashes("dev") == odd.hashes("test")


def test_row_security_that_would_hide_rows_is_refused(odd: Installation) -> None:
    odd.sql(
        "test",
        """DROP MATERIALIZED VIEW public.by_year;
           ALTER TABLE public.people ENABLE ROW LEVEL SECURITY;
           ALTER TABLE public.people FORCE ROW LEVEL SECURITY;
           CREATE POLICY few ON public.people USING (id < 10)""",
    )
    error = odd.refused("dbbackup", "-d", "test")
    assert "people" in error["message"]
    assert odd.result("listbackups")["backups"] == []
    with reached_as(odd, "BYPASSRLS CREATEDB"):
        backup = odd.result("dbbackup", "-d", "test")
        restore = ["dbrestore", "-d", "test", "-i", backup["name"], "--noinput"]
        assert odd.result(*restore)["rows"] == backup["rows"]


def test_a_role_that_may_only_read_backs_up_everything(odd: Installation) -> None:
    reader = "reader_" + odd.databases["test"].database
    odd.sql("test", "SELECT nextval('public.visits_id_seq')")
    with session(odd.server.superuser) as control:
        execute(control, f"CREATE ROLE {reader} LOGIN PASSWORD 'x' IN ROLE pg_read_all_data")
    try:
        params = odd.server.params
        url = (
            f"postgresql://{reader}:x@{params.host}:{params.port}/{odd.databases['test'].database}"
        )
        owner_url = odd.server.url(odd.databases["test"].database)
        odd.variables["TEST_DATABASE_URL"] = url
        backup = odd.run("dbbackup", "-d", "test", "--json", code=None)
        if backup.code:  # large objects have no role that may read them all before PostgreSQL 18
            assert "large object" in backup.json["error"]["message"]
            with session(odd.server.superuser.with_database(odd.databases["test"].database)) as it:
                oids = fetch_all(it, "SELECT oid FROM pg_largeobject_metadata")
                for (oid,) in oids:
                    execute(it, f"GRANT SELECT ON LARGE OBJECT {oid} TO {reader}")
        name = odd.result("dbbackup", "-d", "test")["name"]
        odd.variables["TEST_DATABASE_URL"] = owner_url
        odd.result("dbrestore", "-d", "dev", "-i", name, "--noinput", "--no-owner")
        assert odd.hashes("dev") == odd.hashes("test")
        assert odd.sql("dev", "SELECT last_value FROM public.visits_id_seq") == 5001
    finally:
        for name in ("test", "dev"):
            database = odd.databases[name].database
            with session(odd.server.superuser.with_database(database)) as it:
                execute(it, f"DROP OWNED BY {reader}")
        with session(odd.server.superuser) as control:
            execute(control, f"DROP ROLE {reader}")


def test_room_is_looked_for_before_anything_is_touched(server18: Server) -> None:
    with session(server18.params) as control:
        facts = server_facts(control)
    free = free_space(facts)
    assert free is not None
    assert free > 0
    problems = Preflight()
    problems.require_space(facts, free // 2)
    problems.check()
    problems.require_space(facts, 1 << 60)
    with pytest.raises(SpaceError, match=r"needs about 1,099,511,627,776 MiB.* MiB free"):
        problems.check()


def test_a_backup_of_an_older_major(
    installation15: Installation, installation18: Installation
) -> None:
    """Made on 15, restored and proven on 18 by an installation of the same key and storage."""
    make_odd(installation15)
    backup = installation15.result("dbbackup", "-d", "test", "--checksums")
    installation18.variables |= {
        "SECRET_KEY": (installation15.home / "secret_key").read_text(),
        "BACKUP_STORAGE_URL": f"file://{installation15.home / 'backups'}",
    }
    restore = ["dbrestore", "-d", "test", "-i", backup["name"], "--noinput"]
    assert installation18.result(*restore)["rows"] == backup["rows"]
    assert installation18.hashes("test") == installation15.hashes("test")
    checks = installation18.result("verify_backup", backup["name"], "--full")["checks"]
    assert all(check["ok"] for check in checks)
    back = installation18.result("dbbackup", "-d", "test")["name"]
    installation15.variables |= {
        "BACKUP_STORAGE_URL": installation18.variables["BACKUP_STORAGE_URL"]
    }
    error = installation15.refused("dbrestore", "-d", "test", "-i", back, "--noinput")
    assert "PostgreSQL 18" in error["message"]
    assert "PostgreSQL 15" in error["message"]
