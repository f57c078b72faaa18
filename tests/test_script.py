"""Plain SQL dumps: how they are cut, what is refused and skipped, and the load itself."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import psycopg2
import pytest

from dbops.exceptions import ForeignDumpError, OperationCancelled, StatementError
from dbops.postgres import script_source
from dbops.postgres.params import ConnectionParams
from dbops.postgres.script import (
    CopyBlock,
    ScriptSummary,
    Statement,
    check_script,
    load_script,
    open_script,
    read_script,
    refuse_statement,
    skip_statement,
)

DATA = Path(
    os.environ.get("SKINSPIRE_TEST_DATA") or Path(__file__).parent.parent.parent / "shared" / "data"
)
HEADER = "--\n-- PostgreSQL database dump\n--\n\n"
TRAILER = "\n--\n-- PostgreSQL database dump complete\n--\n\n"


class Trickle(io.BytesIO):
    """A stream that hands out a few bytes at a time, so that every token is cut in two."""

    portion = 3

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.portion)


def cut(script: str | bytes, stream: type[io.BytesIO] = Trickle) -> list[str]:
    """The statements, and for a COPY its data after it."""
    raw = script.encode() if isinstance(script, str) else script
    pieces: list[str] = []
    for item in read_script(stream(raw), "x.sql"):
        if isinstance(item, CopyBlock):
            pieces += [item.sql, item.data.read().decode()]
        else:
            pieces.append(item.text)
    return pieces


def one(script: str) -> Statement:
    (item,) = read_script(io.BytesIO(script.encode()))
    assert isinstance(item, Statement)
    return item


def check(script: str | bytes) -> ScriptSummary:
    raw = script.encode() if isinstance(script, str) else script
    return check_script(lambda: io.BytesIO(raw), "x.sql")


def refusal(script: str | bytes) -> str:
    with pytest.raises(ForeignDumpError) as caught:
        check(script)
    assert caught.value.hint
    return str(caught.value)


def sample(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no {name} beside the repository")
    return path


# --- where statements end -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT ';';",
        "SELECT 'it''s; \\';",
        "SELECT E'\\';\\\\';",
        "SELECT e'it''s \\'; ';",
        "SELECT E'a'\n  'b\\';';",
        "SELECT E'a' -- ' ; \n\n 'b\\';';",
        "SELECT U&'d\\0061;' UESCAPE '!';",
        "SELECT N'a \\ b;', B'1', X'1F', name'x;\\';",
        'SELECT "a;""b\\" FROM U&"d\\0061;";',
        "SELECT $$;'\\$$, $a$ $$; $b$ $a$;",
        "SELECT $é_1$ $é$; $1$ $é_1$;",
        "SELECT a$b$, a$b$ FROM é$$;",
        "SELECT $a$x$aa$a$;",
        "SELECT $1, $2;",
        "SELECT 1 /* ; /* nested ; */ ' \\ */ + 2;",
        "SELECT 1 -- it's; \\!\n + 2;",
        "SELECT 5 - -3, 6 / 2, 2 +/* ; */ 1;",
        "SELECT 4.99, 1e-5, x[1], 'a'::text, \"b\";",
        "INSERT INTO t VALUES (1, 'it''s;', E'\\';', -2, 'a;' -- ;\n), (E'a'\n'\\';');",
        "CREATE RULE r AS ON UPDATE TO t DO (SELECT 1; SELECT 2;);",
        "SELECT begin atomic FROM t;",
    ],
)
def test_statement_is_one(statement: str) -> None:
    """Whatever the portion, and for INSERT's fast lane as for the others."""
    assert cut(statement + "SELECT 2;") == [statement, "SELECT 2;"]
    assert cut(statement + "SELECT 2;", io.BytesIO) == [statement, "SELECT 2;"]


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN ATOMIC END",
        "BEGIN ATOMIC SELECT 1; SELECT 2; END",
        "begin /* ; */ atomic -- ;\n SELECT CASE WHEN a THEN CASE b WHEN 1 THEN 2 END END; end",
        'BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT begin FROM t; SELECT 1 AS "end"; END',
        "BEGIN ATOMIC SELECT 1 case; END",
    ],
)
@pytest.mark.parametrize("kind", ["FUNCTION", "OR REPLACE PROCEDURE"])
def test_sql_standard_body_is_one_statement(kind: str, body: str) -> None:
    statement = f"CREATE {kind} s.f(begin int) LANGUAGE sql {body};"
    assert cut(statement + "SELECT 2;") == [statement, "SELECT 2;"]


def test_end_as_a_label_cannot_hide_what_follows() -> None:
    """`case` may be a label: counting CASE and END would run on into the next statement."""
    script = (
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 case; END; DROP DATABASE x; END;"
    )
    assert "Line 1 of x.sql holds DROP DATABASE" in refusal(script)


def test_begin_atomic_counts_only_in_a_routine() -> None:
    script = "CREATE VIEW v AS SELECT begin atomic FROM t; DROP DATABASE x;"
    assert "DROP DATABASE" in refusal(script)


def test_a_lone_carriage_return_ends_a_comment() -> None:
    assert "DROP DATABASE" in refusal("SELECT 1; -- harmless\rDROP DATABASE x;")


@pytest.mark.parametrize("hidden", ["SELECT 1$a$; DROP DATABASE x; --$a$;", "SELECT 1e'\\';"])
def test_what_versions_read_differently_is_refused(hidden: str) -> None:
    assert "a number that runs into a quote" in refusal(hidden)


def test_stray_dollar_is_refused() -> None:
    assert "holds a $ that starts neither" in refusal("SELECT $a + 1;")


def test_lines_comments_and_empty_statements() -> None:
    script = "\ufeff-- one\n;;\n/* two\n */ SELECT\n 1;\n\nSELECT 2"
    items = list(read_script(Trickle(script.encode())))
    assert [(item.line, item.text) for item in items if isinstance(item, Statement)] == [
        (4, "SELECT\n 1;"),
        (7, "SELECT 2"),
    ]


def test_punctuation_is_never_dropped() -> None:
    assert cut("= /* x */ SELECT 1; +\n-- y\n ; ,") == ["= /* x */ SELECT 1;", "+\n-- y\n ;", ","]


def test_carriage_return_line_feed_file() -> None:
    script = "\\restrict abc\r\nSELECT 'a\r\nb';\r\nCOPY t FROM stdin;\r\n1\r\n\\.\r\nSELECT 2;\r\n"
    assert cut(script) == ["SELECT 'a\r\nb';", "COPY t FROM stdin;", "1\r\n", "SELECT 2;"]


# --- COPY -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        "",
        "1\t2\n",
        "DROP DATABASE x;\n\\c other\n\\! id\n",
        "\\\\.\n\\.x\n \\.\n\\..\nx\\.\n",
        "it's $$ /* \" --\n",
        "\\\n\\\n",
    ],
)
@pytest.mark.parametrize("end", ["\\.\n", "\\.\r\n", "\\."])
def test_copy_data_ends_at_its_marker_only(data: str, end: str) -> None:
    sql = 'COPY public."a b" (x, "y""(z") FROM stdin;'
    rest = [] if end == "\\." else ["SELECT 1;"]
    for stream in (Trickle, io.BytesIO):
        assert cut(f"{sql}\n{data}{end}{'SELECT 1;' if rest else ''}", stream) == [sql, data, *rest]


@pytest.mark.parametrize("options", ["", " WITH (FORMAT csv, HEADER)", " DELIMITER ';'"])
def test_copy_options(options: str) -> None:
    assert cut(f"copy t from STDIN{options}; -- data\n1\n\\.\n")[1] == "1\n"


def test_data_left_over_is_drained() -> None:
    lines = "".join(f"{number}\n" for number in range(100_000))
    script = f"COPY t FROM stdin;\n{lines}\\.\n\nSELECT 1;"
    items = read_script(io.BytesIO(script.encode()))
    block = next(items)
    assert isinstance(block, CopyBlock)
    assert block.data.read(4) == b"0\n1\n"
    assert next(items).line == 100_004
    assert block.data.read(4) == b""


def test_copy_data_of_any_size_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_source, "MAX_STATEMENT", 1 << 20)
    script = b"COPY t FROM stdin;\n" + b"x" * (5 << 20) + b"\n\\.\n"
    assert check(script).bytes_read == len(script)


def test_text_between_copy_and_data_is_refused() -> None:
    assert "goes on after a COPY" in refusal("COPY t FROM stdin; SELECT 1;\n1\n\\.\n")


# --- meta-commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "line", "command"),
    [
        ("\\c other\n", 1, "\\c"),
        ("SELECT 1;\n\n\\connect x;\n", 3, "\\connect"),
        ("\\! id", 1, "\\!"),
        ("SELECT 'a\\'; \\! id -- ';", 1, "\\!"),
        ("SELECT E'\\\\'; \\! id -- ';", 1, "\\!"),
        ("SELECT 'a'\n'b\\'\\! id ';", 2, "\\!"),
        ("SELECT a$b$ \\! id $b$;", 1, "\\!"),
        ("SELECT $b$ $b \\! $b$ \\gexec", 1, "\\gexec"),
        ('SELECT "a\\" \\g /tmp/x', 1, "\\g"),
        ("/* /* */ \\! */ \\! id", 1, "\\!"),
        ("SELECT 1 \\; SELECT 2;", 1, "\\;"),
        ("SELECT (1\n\\)", 2, "\\)"),
        ("COPY t FROM stdin;\n\\.\n\\! id\n", 3, "\\!"),
        ("COPY t FROM stdin;\n\\.\n\\.\n", 3, "\\."),
        ("INSERT INTO t VALUES ('a', 'b\\', \\! id);", 1, "\\!"),
        ("SELECT 1\n\\restrict abc\n;", 2, "\\restrict"),
        ("\\", 1, "\\"),
        ("\\é", 1, "\\"),
    ],
)
def test_meta_command_is_never_run(script: str, line: int, command: str) -> None:
    message = refusal(script)
    assert message == (
        f"Line {line} of x.sql holds the psql meta-command {command}, which is never run."
    )


@pytest.mark.parametrize(
    "form",
    [
        "\\restrict a; \\! id\n",
        "\\restrict a \\! id\n",
        "\\restrict\n",
        "\\restrict a b\n",
        "\\restrict 'a'\n",
        "\\restrict `id`\n",
        "\\restrict :x\n",
        "\\restrictabc\n",
        "\\unrestrict a\r\\! id\n",
        "\\restrict a\f\n",
        "SELECT 1; \\restrict a\n",
        "/* */ \\restrict a\n",
        ";\\unrestrict a\n",
        ", \\unrestrict a\n",
        "\\restrict " + "a" * 2000,
    ],
)
def test_hostile_restrict(form: str) -> None:
    assert "the psql meta-command \\" in refusal(form)


def test_restrict_of_pg_dump_is_skipped() -> None:
    script = (
        "-- x\n\\restrict aB1\n\nCOPY t FROM stdin;\n\\.\n\\unrestrict aB1\n"
        "SELECT 1;\n\\unrestrict b"
    )
    assert cut(script) == ["COPY t FROM stdin;", "", "SELECT 1;"]


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        "'a",
        "E'a\\'",
        '"a',
        "$a$ $$",
        "$$ $",
        "/* /* */",
        "(1",
        "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;",
        "COPY t FROM stdin;",
        "COPY t FROM stdin;\n",
        "COPY t FROM stdin;\n1\n",
        "COPY t FROM stdin;\n1\n\\.x",
        "COPY t FROM stdin;\n1\n\\",
    ],
)
def test_truncated(tail: str) -> None:
    assert refusal("SELECT 1;\n" + tail).startswith("x.sql is truncated: it ends")


def test_truncation_names_where_it_starts() -> None:
    message = refusal("SELECT 1;\nSELECT\n 'abc\n\n")
    assert message == "x.sql is truncated: it ends inside a quoted text that starts on line 3."


@pytest.mark.parametrize("script", ["", "\n", "-- nothing\n/* here */;", "\\restrict a\n"])
def test_nothing_to_restore(script: str) -> None:
    assert refusal(script) == "x.sql holds no SQL statement at all."


def test_pg_dump_needs_its_trailer() -> None:
    assert check(f"{HEADER}SELECT 1;{TRAILER}").statements == 1
    for script in (
        f"{HEADER}SELECT 1;",
        f"{HEADER}SELECT 1;{TRAILER}{HEADER}SELECT 2;",
        f"{HEADER}SELECT '{TRAILER}';",
        f"{HEADER}SELECT 1{TRAILER}",
    ):
        assert "before pg_dump's closing comment" in refusal(script)
    assert check("SELECT 1").statements == 1


def test_pg_dumpall_has_its_own_sentence() -> None:
    message = refusal("--\n-- PostgreSQL database cluster dump\n--\n\nCREATE ROLE x;\n\\c y\n")
    assert message.startswith("x.sql is a pg_dumpall dump of a whole server")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"SELECT 1;\nSELECT '\0';", "Line 2 of x.sql holds a NUL byte"),
        (b"COPY t FROM stdin;\n\0\n\\.\n", "Line 2 of x.sql holds a NUL byte"),
        (b"SELECT 1;\nSELECT 1,\n '\xff';", "Line 3 of x.sql is not UTF-8 text"),
        (b"SET standard_conforming_strings = off;", "sets standard_conforming_strings to OFF"),
        (b"set session standard_conforming_strings to 'Off';", "to Off"),
        (b'SET "standard_conforming_strings" = 0;', "to 0"),
        (b"SET standard_conforming_strings TO E'off';", "to E"),
        (b"SET client_encoding = 'LATIN1';", "sets client_encoding to LATIN1"),
        (b"SET NAMES 'SJIS';", "sets client_encoding to SJIS"),
    ],
)
def test_unreadable_text(raw: bytes, problem: str) -> None:
    assert problem in refusal(raw)


def test_readable_settings_pass() -> None:
    script = (
        "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET names 'utf-8';"
    )
    assert check(script).statements == 3


def test_too_big_a_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_source, "MAX_STATEMENT", 1000)
    assert check("SELECT '" + "a" * 900 + "'; SELECT '" + "a" * 900 + "';").statements == 2
    assert "Line 2 of x.sql starts a statement" in refusal("SELECT 1;\nSELECT '" + "a" * 2000)


# --- refused and skipped statements ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DROP DATABASE x", "DROP DATABASE"),
        ("/* x */ create -- y\n /* /* */ */ database x", "CREATE DATABASE"),
        ("ALTER DATABASE x SET y = 1", "ALTER DATABASE"),
        ("CREATE TABLESPACE x LOCATION '/'", "CREATE TABLESPACE"),
        ("CREATE ROLE x", "CREATE ROLE"),
        ("ALTER USER x SUPERUSER", "ALTER USER"),
        ("DROP GROUP x", "DROP GROUP"),
        ("COPY t FROM PROGRAM 'id'", "COPY ... PROGRAM"),
        ("COPY (SELECT 1) TO PROGRAM E'id'", "COPY ... PROGRAM"),
        ("COPY t FROM '/etc/passwd'", "COPY to or from"),
        ("COPY t TO '/tmp/x'", "COPY to or from"),
        ("COPY \"stdin\" (a) FROM '/x'", "COPY to or from"),
        ("COPY t FROM stdout", "COPY to or from"),
        ("COPY t TO stdout", "COPY to or from"),
        ("CREATE EVENT TRIGGER x ON y EXECUTE FUNCTION z()", "CREATE EVENT TRIGGER"),
        ("CREATE SUBSCRIPTION x CONNECTION '' PUBLICATION y", "CREATE SUBSCRIPTION"),
        ("ALTER SYSTEM SET x = 1", "ALTER SYSTEM"),
        ("LOAD 'x'", "LOAD"),
        ("REASSIGN OWNED BY x TO y", "REASSIGN OWNED"),
        ("ROLLBACK", "ROLLBACK"),
        ("ROLLBACK TO SAVEPOINT x", "ROLLBACK"),
        ("SAVEPOINT x", "SAVEPOINT"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("COMMIT PREPARED 'x'", "COMMIT PREPARED"),
        ("SET SESSION AUTHORIZATION 'x'", "SET SESSION AUTHORIZATION"),
        ("SET LOCAL ROLE x", "SET LOCAL ROLE"),
        ("set \"role\" = 'x'", 'SET "role"'),
        ("SET session_authorization TO x", "SET SESSION_AUTHORIZATION"),
        ("RESET ROLE", "RESET ROLE"),
    ],
)
def test_refused(statement: str, named: str) -> None:
    reason = refuse_statement(one(statement + ";"))
    assert reason is not None
    assert reason.startswith(named)
    assert refusal(f"SELECT 1;\n{statement};").startswith("Line 2 of x.sql holds " + named)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public",
        "CREATE USER MAPPING FOR x SERVER y",
        "DO $$ BEGIN RAISE NOTICE 'DROP DATABASE x;'; END $$",
        "CREATE TABLE database (role int)",
        "PREPARE x AS SELECT 1",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "SET default_table_access_method = heap",
        "COMMENT ON SCHEMA public IS 'x'",
        "COMMENT ON DATABASE x IS 'x'",
        "CREATE SCHEMA public2",
        "ALTER TABLE t RENAME owner TO x",
        "ALTER TABLE t RENAME COLUMN owner TO x",
        "ALTER TABLE t ADD COLUMN a int, OWNER TO x",
        "ALTER TABLE t OWNER TO x, ADD COLUMN a int",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'ALTER TABLE t OWNER TO x'",
    ],
)
def test_passed_on(statement: str) -> None:
    assert refuse_statement(one(statement + ";")) is None
    assert not skip_statement(one(statement + ";"), 18)


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "COMMIT WORK",
        "END",
        "GRANT ALL ON t TO x",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE x GRANT SELECT ON TABLES TO y",
        "COMMENT ON EXTENSION x IS 'y'",
        "CREATE SCHEMA public",
        'CREATE SCHEMA IF NOT EXISTS "public"',
        "DROP SCHEMA IF EXISTS public",
        "ALTER TABLE public.t OWNER TO x",
        'ALTER TABLE IF EXISTS ONLY "a ""b;(".t OWNER TO "x y"',
        "ALTER FUNCTION public.f(a integer, VARIADIC b text[]) OWNER TO x",
        "ALTER AGGREGATE public.g(*) OWNER TO x",
        "ALTER OPERATOR public.===(integer, integer) OWNER TO x",
        "ALTER OPERATOR CLASS a.b USING btree OWNER TO x",
        "ALTER TEXT SEARCH CONFIGURATION a.b OWNER TO x",
        "ALTER LARGE OBJECT 12 OWNER TO x",
        "ALTER MATERIALIZED VIEW owner OWNER TO CURRENT_USER",
    ],
)
def test_skipped(statement: str) -> None:
    assert refuse_statement(one(statement + ";")) is None
    assert skip_statement(one(statement + ";"), 18)


def test_setting_unknown_to_an_older_server_is_skipped() -> None:
    setting = one("SET transaction_timeout = 0;")
    assert skip_statement(setting, 16)
    assert not skip_statement(setting, 17)
    assert not skip_statement(one("SET idle_in_transaction_session_timeout = 0;"), 15)


def test_all_refusals_are_counted() -> None:
    message = refusal("SELECT 1;\nDROP DATABASE x;\nSET ROLE y;\n\\c z\n")
    assert message.startswith("Line 2 of x.sql holds DROP DATABASE")
    assert message.endswith("; 2 further things in it would be refused as well.")


def test_summary() -> None:
    script = (
        f"{HEADER}-- Dumped from database version 15.1\r\n-- Dumped by pg_dump version 18.4 (x)\n"
        f"CREATE TABLE a();\nCREATE UNLOGGED TABLE b();\nCREATE VIEW v AS SELECT 1;\n"
        f"COPY a FROM stdin;\n1\n\\.\nSELECT '\n-- Dumped by pg_dump version 1\n';{TRAILER}"
    )
    assert check(script) == ScriptSummary(
        statements=4,
        tables=2,
        copy_blocks=1,
        database_version="15.1",
        pg_dump_version="18.4 (x)",
        bytes_read=len(script),
    )


def test_check_can_be_cancelled() -> None:
    def cancel() -> None:
        raise OperationCancelled("stop")

    with pytest.raises(OperationCancelled):
        check_script(lambda: io.BytesIO(b"SELECT 1;"), "x.sql", poll=cancel)


# --- files ----------------------------------------------------------------------------------------


def test_gzip_is_known_by_content(tmp_path: Path) -> None:
    for name, content in (("a.sql", gzip.compress(b"SELECT 1;")), ("b.gz", b"SELECT 1;")):
        (tmp_path / name).write_bytes(content)
        with open_script(tmp_path / name) as stream:
            assert stream.read() == b"SELECT 1;"


def damaged(content: bytes) -> Iterator[bytes]:
    yield content[:-9]
    yield content[: len(content) // 2]
    yield content[:2]
    yield content[:40] + bytes(byte ^ 0xFF for byte in content[40:60]) + content[60:]


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "dump.sql.gz"
    for content in damaged(gzip.compress(os.urandom(3000).hex().encode())):
        path.write_bytes(content)
        with pytest.raises(ForeignDumpError, match=r"dump\.sql\.gz is a damaged or truncated gzip"):
            check_script(lambda: open_script(path), path.name)


def test_pagila_checks_clean() -> None:
    path = sample("pagila/pagila.sql.gz")
    summary = check_script(lambda: open_script(path), path.name)
    assert (summary.tables, summary.copy_blocks) == (21, 21)
    assert summary.database_version.startswith("15.")


def test_chinook_is_refused() -> None:
    path = sample("chinook/chinook.sql")
    with pytest.raises(ForeignDumpError) as caught:
        check_script(lambda: open_script(path), path.name)
    assert str(caught.value).startswith("Line 19 of chinook.sql holds DROP DATABASE")
    assert "2 further things" in str(caught.value)
    with pytest.raises(ForeignDumpError, match=r"Line 28 of chinook\.sql .* meta-command \\c,"):
        list(read_script(open_script(path), path.name))


# --- the load -------------------------------------------------------------------------------------


@pytest.fixture
def target(empty_database: ConnectionParams) -> Iterator[psycopg2.extensions.connection]:
    with closing(psycopg2.connect(**empty_database.libpq_keywords())) as connection:
        yield connection


def no_poll() -> None:
    return None


def load(script: str | IO[bytes], target: psycopg2.extensions.connection) -> None:
    stream = io.BytesIO(script.encode()) if isinstance(script, str) else script
    major = target.server_version // 10_000
    load_script(stream, target, server_major=major, poll=no_poll)


def value(target: psycopg2.extensions.connection, query: str) -> object:
    with target.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    return row[0] if row else None


def test_pagila_loads_as_an_ordinary_role(target: psycopg2.extensions.connection) -> None:
    with open_script(sample("pagila/pagila.sql.gz")) as stream:
        load(stream, target)
    target.commit()
    assert value(target, "SELECT count(*) FROM public.rental") == 16_044
    assert (
        value(
            target,
            "SELECT bool_and(tableowner = current_user) FROM pg_tables WHERE schemaname = 'public'",
        )
        is True
    )


def test_contents_arrive_exactly(target: psycopg2.extensions.connection) -> None:
    load(
        "CREATE TABLE t (a int, b text);\r\nCOPY t FROM stdin;\n1\tDROP; \\\\. %s é\n2\t\\N\n\\.\n"
        "INSERT INTO t VALUES (3, '100%s \\'), (4, E'it\\'s'\n'\\'é'); BEGIN;"
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC"
        " SELECT CASE WHEN true THEN 1 END; SELECT count(*) FROM t; END; COMMIT;"
        "ALTER TABLE t OWNER TO nobody_of_that_name; GRANT ALL ON t TO nobody_of_that_name;",
        target,
    )
    assert value(target, "SELECT string_agg(b, '|' ORDER BY a) FROM t") == (
        "DROP; \\. %s é|100%s \\|it's'é"
    )
    assert value(target, "SELECT f()") == 4


def test_caller_alone_commits(target: psycopg2.extensions.connection) -> None:
    load("BEGIN; CREATE TABLE t (a int); COMMIT; CREATE TABLE u (a int); END;", target)
    target.rollback()
    assert value(target, "SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u')") == 0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SELECT 1;\n\nSELECT * FROM absent;", r'^Line 3: relation "absent" does not exist$'),
        ("CREATE TABLE t (a int);\nCOPY t FROM stdin;\nx\n\\.\n", r"^Line 2: invalid input syntax"),
    ],
)
def test_server_error_names_the_line(
    target: psycopg2.extensions.connection, script: str, message: str
) -> None:
    with pytest.raises(StatementError, match=message):
        load(script, target)


@pytest.mark.parametrize(
    "setting", ["standard_conforming_strings', 'off", "client_encoding', 'LATIN1"]
)
def test_reading_cannot_be_changed_behind_the_lexer(
    target: psycopg2.extensions.connection, setting: str
) -> None:
    script = f"SELECT 1;\nSELECT set_config('{setting}', false);\nSELECT 2;"
    with pytest.raises(ForeignDumpError, match="Line 2 of the dump changed how the server reads"):
        load(script, target)


def test_load_refuses_again(target: psycopg2.extensions.connection) -> None:
    with pytest.raises(ForeignDumpError, match="Line 2 of the dump holds SET ROLE"):
        load("SELECT 1;\nSET ROLE x;", target)


def test_autocommit_is_no_transaction(target: psycopg2.extensions.connection) -> None:
    target.autocommit = True
    with pytest.raises(ValueError, match="autocommit"):
        load("SELECT 1;", target)


def test_cancel_inside_a_copy(target: psycopg2.extensions.connection) -> None:
    polls: list[int] = []

    def cancel() -> None:
        polls.append(1)
        if len(polls) > 4:
            raise OperationCancelled("stop")

    rows = "1\n" * 1_000_000
    script = f"CREATE TABLE t (a int);COPY t FROM stdin;\n{rows}\\.\n".encode()
    with pytest.raises(OperationCancelled):
        load_script(io.BytesIO(script), target, server_major=18, poll=cancel)
    target.rollback()
    assert len(polls) == 5


def test_dump_that_ends_inside_a_copy(target: psycopg2.extensions.connection) -> None:
    with pytest.raises(ForeignDumpError, match="truncated"):
        load("CREATE TABLE t (a int);\nCOPY t FROM stdin;\n1\n", target)
