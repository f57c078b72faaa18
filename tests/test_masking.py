"""Masks, on real servers: what arrives in the place of a value, and what stops a copy."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dbops.exceptions import MaskingError, StatementError
from dbops.masking.plan import MaskPlan, plan_masks, session_settings
from dbops.masking.rules import load_rules
from dbops.masking.suggest import suggest_rules
from dbops.masking.survey import survey_tables
from dbops.postgres.connection import Connection, execute, fetch_all, fetch_value, session
from dbops.postgres.params import ConnectionParams
from tests.installation import REPOSITORY

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
CANARY = "Kanarienvogel"


@pytest.fixture
def source(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        execute(connection, "CREATE SCHEMA s")
        yield connection


def plan_of(connection: Connection, tmp_path: Path, toml: str) -> MaskPlan:
    file = tmp_path / "masking.toml"
    file.write_text(toml)
    return plan_masks(connection, load_rules(file))


def masked(
    connection: Connection, plan: MaskPlan, table: str, key: bytes = KEY
) -> list[dict[str, Any]]:
    """The rows as they would arrive: masked by COPY in binary, read into a table of the same
    columns, whose types must therefore be the very same."""
    schema, name = table.split(".", 1)
    where = f'"{schema}"."{name}"'
    columns = [
        (column.name, column.type, plan.columns.get(table, {}).get(column.name))
        for column in survey_tables(connection)[table].columns.values()
    ]
    quoted = {name: '"' + name.replace('"', '""') + '"' for name, _, _ in columns}
    for setting, value in session_settings(key).items():
        execute(connection, "SELECT set_config(%s, %s, false)", [setting, value])
    chosen = ", ".join(expression or quoted[name] for name, _, expression in columns)
    buffer = io.BytesIO()
    with connection.cursor() as cursor:
        cursor.copy_expert(
            f"COPY (SELECT {chosen} FROM ONLY {where}) TO STDOUT (FORMAT binary)", buffer
        )
        definitions = ", ".join(f"{quoted[name]} {kind}" for name, kind, _ in columns)
        cursor.execute("DROP TABLE IF EXISTS arrived")
        cursor.execute(f"CREATE TEMP TABLE arrived ({definitions})")
        buffer.seek(0)
        cursor.copy_expert("COPY pg_temp.arrived FROM STDIN (FORMAT binary)", buffer)
        cursor.execute("SELECT * FROM pg_temp.arrived")
        return [
            dict(zip([name for name, _, _ in columns], row, strict=True))
            for row in cursor.fetchall()
        ]


# ------------------------------------------------------------------------------------ strategies

EVERY = f"""
CREATE DOMAIN s.mail AS varchar(40) CHECK (VALUE ~ '^[^@]+@[a-z.]+$');
CREATE TYPE s.state AS ENUM ('open', 'closed');
CREATE TABLE s.every (
    id bigint PRIMARY KEY, state s.state, flag boolean, amount numeric(10, 2),
    gone text, fixed varchar(10) NOT NULL, fixed_json jsonb,
    h_text text, h_short varchar(15), h_char char(20), h_bytes bytea, h_uuid uuid,
    h_small smallint, h_int integer, h_big bigint,
    full_name text, first varchar(4), last text, mail s.mail, phone varchar(12),
    short_phone char(7), address text, street varchar(20), city text, postcode char(6), zip text,
    note text, long_note text, tags text[], token varchar(16), born date, seen timestamp,
    at timestamptz, doc jsonb, old_doc json);
INSERT INTO s.every SELECT g, 'open', true, 1.5, '{CANARY}', '{CANARY[:10]}', '{{"x": "{CANARY}"}}',
    '{CANARY}' || g, '{CANARY}' || g, '{CANARY}' || g, '{CANARY}'::bytea, gen_random_uuid(),
    g, g, g, '{CANARY} Berg', 'Kana', '{CANARY}', 'k{CANARY}' || g || '@example.org',
    '+4930{CANARY[:6]}', 'Kanarie', '{CANARY} 1', '{CANARY}', '{CANARY}', 'Kanari', '{CANARY}',
    repeat('{CANARY} ', 9),
    repeat('{CANARY} ', 2000), ARRAY['{CANARY}', NULL, 'y'], '{CANARY}', '1980-05-17',
    '2024-03-30 08:00', '2024-03-30 08:00+01',
    '{{"keep": 1, "name": "{CANARY}", "drop": "{CANARY}",
      "deep": {{"{CANARY}": 1, "note": "{CANARY}"}},
      "visits": [{{"note": "{CANARY}", "on": "2024-02-31T10:00", "x": "{CANARY}"}}, "{CANARY}", 7],
      "born": "{CANARY}", "list": ["{CANARY}", null], "odd": {{"a": "{CANARY}"}}, "none": null}}',
    '{{"a": "{CANARY}", "b": [1]}}' FROM generate_series(1, 20) g;
INSERT INTO s.every (id, fixed) VALUES (0, 'x');
"""
EVERY_RULES = """
["s.every"]
gone = "null"
fixed = { strategy = "constant", value = "it's \\\\" }
fixed_json = { strategy = "constant", value = { a = [1, true] } }
h_text = "hash"
h_short = "hash"
h_char = "hash"
h_bytes = "hash"
h_uuid = "hash"
h_small = "hash"
h_int = "hash"
h_big = "hash"
full_name = "name"
first = { strategy = "name", part = "first" }
last = { strategy = "name", part = "last" }
mail = "email"
phone = "phone"
short_phone = "phone"
address = "address"
street = { strategy = "address", part = "street" }
city = { strategy = "address", part = "city" }
postcode = { strategy = "address", part = "postcode" }
zip = { strategy = "address", part = "postcode" }
note = "free_text"
long_note = "free_text"
tags = "free_text"
token = "token"
born = { strategy = "date_shift", person = "id", days = 30 }
seen = "date_shift"
at = "date_shift"
old_doc = { strategy = "jsonb", paths = { b = "keep" } }
["s.every".doc]
strategy = "jsonb"
["s.every".doc.paths]
keep = "keep"
name = "name"
"deep.note" = "free_text"
"visits[].note" = "hash"
"visits[].on" = { strategy = "date_shift", person = "id" }
born = "date_shift"
"list[]" = "email"
odd = "phone"
none = "name"
absent = "name"
"""


def test_every_strategy_yields_the_type_and_leaves_nothing_behind(
    source: Connection, tmp_path: Path
) -> None:
    execute(source, EVERY)
    plan = plan_of(source, tmp_path, EVERY_RULES)
    plan.require_complete()
    nothing, *rows = masked(source, plan, "s.every")[::-1]
    row = rows[-1]
    assert CANARY[:6].lower() not in str(rows).lower()
    assert b"Kanarie" not in bytes(row["h_bytes"])
    assert row["gone"] is None
    assert row["fixed"] == nothing["fixed"] == "it's \\"
    assert row["fixed_json"] == {"a": [1, True]}
    assert row["state"] == "open"
    assert re.fullmatch("[0-9a-f]{32}", row["h_text"])
    assert re.fullmatch("[0-9a-f]{15}", row["h_short"])
    assert re.fullmatch("[0-9a-f]{20}", row["h_char"])
    assert len(bytes(row["h_bytes"])) == 32
    assert min(row["h_small"], row["h_int"], row["h_big"]) >= 0
    assert re.fullmatch(r"\w+ \w+", row["full_name"])
    assert 0 < len(row["first"]) <= 4
    assert re.fullmatch(r"[0-9a-f]{16}@example\.invalid", row["mail"])
    assert re.fullmatch(r"\+1[2-9]\d\d55501\d\d", row["phone"])
    assert re.fullmatch(r"55501\d\d", row["short_phone"])
    assert re.fullmatch(r"000\d{3}", row["postcode"])
    assert re.fullmatch(r"00\d{3}", row["zip"])
    assert 0 < len(row["street"]) <= 20
    assert abs(len(row["note"]) - 9 * 14) < 9
    assert len(row["long_note"]) == 2000 * 14
    assert re.fullmatch(r"[\w-]{16}", row["token"])
    assert row["tags"][1] is None
    assert len(row["tags"]) == 3
    assert 1 <= (date(1980, 5, 17) - row["born"]).days <= 30
    assert {name for name, value in nothing.items() if value is not None} == {
        "id", "fixed", "fixed_json",
    }  # fmt: skip


def test_of_a_document_only_what_is_named_arrives(source: Connection, tmp_path: Path) -> None:
    execute(source, EVERY)
    row = masked(source, plan_of(source, tmp_path, EVERY_RULES), "s.every")[0]
    doc = row["doc"]
    assert set(doc) == {"keep", "name", "deep", "visits", "born", "list", "odd", "none"}
    assert doc["keep"] == 1
    assert re.fullmatch(r"\w+ \w+", doc["name"])
    assert set(doc["deep"]) == {"note"}
    assert set(doc["visits"][0]) == {"note", "on"}
    # The 31st of a short month counts on; the time of day stays.
    assert re.fullmatch(r"202[34]-\d\d-\d\dT10:00", doc["visits"][0]["on"])
    assert doc["visits"][1:] == [None, None]
    assert doc["born"] is None
    assert doc["odd"] is None
    assert doc["none"] is None
    assert doc["list"][0].endswith("@example.invalid")
    assert doc["list"][1] is None
    assert row["old_doc"] == {"b": [1]}


def test_same_value_same_false_value_in_every_table_and_run(
    source: Connection, tmp_path: Path
) -> None:
    execute(
        source,
        """CREATE TABLE s.a (id int PRIMARY KEY, given text, family varchar(50), mail text,
             login text);
           CREATE TABLE s.b (who varchar(60), mail varchar(60), login varchar(20), n bigint);
           INSERT INTO s.a VALUES (1, 'Anna', 'Berg', 'a@b.org', 'aberg'),
             (2, 'Ida', 'Ek', 'i@b.org', 'x');
           INSERT INTO s.b VALUES (' ANNA Berg', 'a@b.org', 'aberg', 1)""",
    )
    rules = """
["s.a"]
given = { strategy = "name", part = "first" }
family = { strategy = "name", part = "last" }
mail = "email"
login = "hash"
["s.b"]
who = "name"
mail = "email"
login = "hash"
"""
    plan = plan_of(source, tmp_path, rules)
    anna, ida = masked(source, plan, "s.a")
    [other] = masked(source, plan, "s.b")
    assert other["who"] == f"{anna['given']} {anna['family']}"
    assert other["mail"] == anna["mail"] != ida["mail"]
    assert anna["login"].startswith(other["login"])
    assert masked(source, plan_of(source, tmp_path, rules), "s.a") == [anna, ida]
    assert masked(source, plan, "s.a", OTHER_KEY)[0]["mail"] != anna["mail"]


def test_dates_of_a_person_move_together(source: Connection, tmp_path: Path) -> None:
    execute(
        source,
        """CREATE TABLE s.patients (id int PRIMARY KEY, born date, seen timestamptz);
           CREATE TABLE s.visits (id bigint PRIMARY KEY, patient bigint, day date, at timestamp);
           INSERT INTO s.patients SELECT g, date '1990-01-01' + g, '2024-03-31 00:30+01'
             FROM generate_series(1, 300) g;
           INSERT INTO s.visits SELECT g, g, date '2024-01-01', '2024-01-03 10:00'
             FROM generate_series(1, 300) g;
           INSERT INTO s.visits VALUES (999, NULL, '2024-01-01', 'infinity')""",
    )
    plan = plan_of(
        source,
        tmp_path,
        """["s.patients"]
born = { strategy = "date_shift", person = "id" }
seen = { strategy = "date_shift", person = "id" }
["s.visits"]
day = { strategy = "date_shift", person = "patient" }
at = { strategy = "date_shift", person = "patient" }
""",
    )
    plan.require_complete()
    patients = {row["id"]: row for row in masked(source, plan, "s.patients")}
    shifts = set()
    for visit in masked(source, plan, "s.visits"):
        if visit["patient"] is None:
            assert visit["day"] < date(2024, 1, 1)
            continue
        born = patients[visit["patient"]]["born"]
        shift = visit["day"].toordinal() - date(2024, 1, 1).toordinal()
        assert born.toordinal() - date(1990, 1, 1).toordinal() - visit["patient"] == shift
        assert visit["at"].date().toordinal() - visit["day"].toordinal() == 2
        assert visit["at"].hour == 10
        shifts.add(shift)
    assert -180 <= min(shifts) < -150
    assert -30 < max(shifts) <= -1


def test_unique_values_stay_unique(source: Connection, tmp_path: Path) -> None:
    execute(
        source,
        """CREATE TABLE s.u (id int PRIMARY KEY, mail varchar(30) UNIQUE, login varchar(15) UNIQUE,
                             token char(12) UNIQUE, big bigint UNIQUE, tag uuid UNIQUE);
           INSERT INTO s.u SELECT g, g || '@x.org', 'u' || g, g, g, gen_random_uuid()
             FROM generate_series(1, 100000) g""",
    )
    plan = plan_of(
        source,
        tmp_path,
        """["s.u"]
mail = "email"
login = "hash"
token = "token"
big = "hash"
tag = "hash"
""",
    )
    plan.require_complete()
    rows = masked(source, plan, "s.u")
    for name in ("mail", "login", "token", "big", "tag"):
        assert len({row[name] for row in rows}) == 100_000, name


def test_no_address_stays_none(source: Connection, tmp_path: Path) -> None:
    """Accounts without an e-mail address hold '', and their addresses are unique but for that."""
    execute(
        source,
        """CREATE TABLE s.users (id integer PRIMARY KEY, mail varchar(254) NOT NULL);
        CREATE UNIQUE INDEX ON s.users (lower(mail)) WHERE mail <> '';
        INSERT INTO s.users VALUES (1, ''), (2, ''), (3, 'a@x.org')""",
    )
    rows = masked(source, plan_of(source, tmp_path, '["s.users"]\nmail = "email"'), "s.users")
    mails = {row["id"]: row["mail"] for row in rows}
    assert (mails[1], mails[2]) == ("", "")
    assert mails[3].endswith("@example.invalid")


def test_no_key_no_value(source: Connection, tmp_path: Path) -> None:
    """Sessions without the key fail; none draws false values that anyone could draw again."""
    execute(
        source, "CREATE TABLE s.t (id int PRIMARY KEY, n text); INSERT INTO s.t VALUES (1, 'a')"
    )
    expression = plan_of(source, tmp_path, '["s.t"]\nn = "hash"').columns["s.t"]["n"]
    for key in ("", "ab", "zz" * 32):
        execute(source, "SELECT set_config('skinspire.mask_key', %s, false)", [key])
        with pytest.raises(StatementError):
            fetch_value(source, f"SELECT {expression} FROM ONLY s.t")


def test_the_key_is_in_no_expression(source: Connection, tmp_path: Path) -> None:
    execute(source, EVERY)
    text = str(plan_of(source, tmp_path, EVERY_RULES))
    assert KEY.hex() not in text
    assert session_settings(KEY) == {"skinspire.mask_key": KEY.hex()}


# ------------------------------------------------------------------------------------ the plan


def test_what_nothing_covers_is_listed(source: Connection, tmp_path: Path) -> None:
    execute(
        source,
        """CREATE TYPE s.state AS ENUM ('a'); CREATE TYPE s.int4 AS (secret text);
           CREATE DOMAIN s.money AS numeric(10, 2);
           CREATE TABLE s.t (id int PRIMARY KEY, ok boolean, state s.state, states s.state[], n int,
             tax_amount s.money, ratio real, created_at timestamptz, key_of uuid,
             phone bigint, tax_number numeric, lat float8, seen timestamptz, updated date, u uuid,
             words text[], doc jsonb, address inet, raw bytea, c s.int4, made text
               GENERATED ALWAYS AS (doc::text) STORED);
           CREATE TABLE s.cards (card_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
           CREATE TABLE s.people (ssn bigint PRIMARY KEY);
           ALTER TABLE s.t ADD UNIQUE (u), ADD FOREIGN KEY (key_of) REFERENCES s.t (u)""",
    )
    plan = plan_of(source, tmp_path, "")
    assert [each.column for each in plan.missing] == [
        "ssn", "phone", "tax_number", "lat", "seen", "updated", "u", "words", "doc",
        "address", "raw", "c",
    ]  # fmt: skip
    assert "s.t.phone (bigint) has no rule." in plan.problems
    with pytest.raises(MaskingError, match=r"s\.t\.words") as caught:
        plan.require_complete()
    assert caught.value.hint == "python manage.py masking --missing"
    plan = plan_of(
        source,
        tmp_path,
        '[safe]\ntypes = ["bytea"]\ncolumns = ["s.*.[!r]*"]\n["s.t"]\nraw = "keep"',
    )
    assert plan.problems == ()
    assert not any(plan.columns.values())


def test_partitions_follow_their_root(source: Connection, tmp_path: Path) -> None:
    execute(
        source,
        """CREATE TABLE s.p (id int, on_day date, note text, PRIMARY KEY (id, on_day))
             PARTITION BY RANGE (on_day);
           CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')
             PARTITION BY LIST (id);
           CREATE TABLE s.p11 PARTITION OF s.p1 DEFAULT;
           CREATE TABLE s.p2 (note text, id int NOT NULL, on_day date NOT NULL);
           ALTER TABLE s.p ATTACH PARTITION s.p2 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
           INSERT INTO s.p VALUES (1, '2024-05-05', 'secret'), (2, '2025-05-05', 'secret')""",
    )
    plan = plan_of(
        source, tmp_path, '["s.p"]\non_day = "keep"\nnote = "hash"\n["s.p2"]\nnote = "keep"'
    )
    plan.require_complete()
    assert set(plan.columns) == {"s.p", "s.p1", "s.p11", "s.p2"}
    assert "s.p2 is a partition: the rules of s.p hold." in plan.notes
    for table in ("s.p11", "s.p2"):
        assert masked(source, plan, table)[0]["note"] != "secret"
    assert [each.table for each in plan_of(source, tmp_path, "").missing] == ["s.p", "s.p"]
    problems = plan_of(source, tmp_path, '["s.p"]\non_day = "date_shift"\nnote = "null"').problems
    assert "s.p.on_day decides which partition a row belongs to and cannot be masked." in problems
    assert plan_of(source, tmp_path, '["s.p"]\nrows = "leave out"').emptied == {
        "s.p", "s.p1", "s.p11", "s.p2",
    }  # fmt: skip


SHOP = """
CREATE TABLE s.p (id int PRIMARY KEY, code varchar(20) UNIQUE, n text NOT NULL, small int UNIQUE,
  mail text, tiny varchar(10), day date, pin text CHECK (pin ~ '^[0-9]{4}$'), UNIQUE (n, day));
CREATE UNIQUE INDEX mail_index ON s.p (lower(mail));
CREATE TABLE s.c (id int PRIMARY KEY, code varchar(20) REFERENCES s.p (code),
  p int NOT NULL REFERENCES s.p);
INSERT INTO s.p VALUES (1, 'a', 'n', 7, 'x@y.z', 'a', '2024-01-01', '1234')
"""
COVERED = {
    "code": "keep", "n": "keep", "small": "keep", "mail": "keep", "tiny": "keep", "day": "keep",
    "pin": "keep",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "child", "sentence"),
    [
        ({"n": "null"}, "", "s.p.n: null, but the column is NOT NULL."),
        ({"mail": "name"}, "", "name does not keep values apart, as mail_index demands."),
        ({"small": "hash"}, "", "s.p.small: hash does not keep values apart"),
        ({"n": "free_text"}, "", "s.p.n: free_text does not keep values apart"),
        ({"tiny": "email"}, "", "s.p.tiny: email does not fit into 10 characters."),
        ({"day": "phone"}, "", "s.p.day: phone does not fit the type date."),
        ({"code": "hash"}, "", "refers to s.p.code, and the two are not masked alike."),
        ({"code": "hash"}, 'code = "token"', "the two are not masked alike."),
        ({"pin": "hash"}, "", "s.p.pin: the false values break the constraint p_pin_check."),
        ({"rows": "leave out"}, 'code = "null"', "s.c.p refers to s.p, whose rows are left out"),
    ],
)
def test_rules_that_cannot_work_are_named_before_anything_is_copied(
    source: Connection, tmp_path: Path, changed: dict[str, str], child: str, sentence: str
) -> None:
    execute(source, SHOP)
    rules = "\n".join(f'{name} = "{rule}"' for name, rule in (COVERED | changed).items())
    child = child or 'code = "keep"'
    plan = plan_of(source, tmp_path, f'["s.p"]\n{rules}\n["s.c"]\n{child}')
    assert len(plan.problems) == 1, plan.problems
    assert sentence in plan.problems[0]


@pytest.mark.parametrize(
    ("changed", "child"),
    [
        ({"code": "hash"}, "hash"),
        ({"code": "hash"}, "null"),
        ({"mail": "email"}, "keep"),
        ({"n": "token"}, "keep"),
        ({"day": "null"}, "keep"),
    ],
)
def test_rules_that_work(
    source: Connection, tmp_path: Path, changed: dict[str, str], child: str
) -> None:
    execute(source, SHOP)
    rules = "\n".join(f'{name} = "{rule}"' for name, rule in (COVERED | changed).items())
    plan = plan_of(source, tmp_path, f'["s.p"]\n{rules}\n["s.c"]\ncode = "{child}"')
    assert plan.problems == ()


def test_a_cast_that_fails_is_found_on_a_few_rows(source: Connection, tmp_path: Path) -> None:
    execute(source, "CREATE TABLE s.t (id int PRIMARY KEY, a inet, b text);"
                    "INSERT INTO s.t VALUES (1, '10.0.0.1', 'x')")  # fmt: skip
    rules = '["s.t"]\na = { strategy = "constant", value = "nobody" }\nb = "null"'
    [problem] = plan_of(source, tmp_path, rules).problems
    assert problem == 's.t.a: invalid input syntax for type inet: "nobody".'


def test_a_standby_is_enough(source: Connection, tmp_path: Path) -> None:
    """Nothing is created on the source, inside the caller's transaction or outside; the key of the
    trial does not stay."""
    execute(source, SHOP)
    rules = '["s.*"]\n' + "\n".join(f'{name} = "keep"' for name in COVERED) + '\n["s.p"]\nn="token"'
    execute(source, "SET default_transaction_read_only = on")
    first = plan_of(source, tmp_path, rules)
    execute(source, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    assert plan_of(source, tmp_path, rules) == first
    execute(source, "COMMIT")
    assert not fetch_value(source, "SELECT current_setting('skinspire.mask_key', true)")


def test_search_vectors_are_made_from_masked_text(source: Connection, tmp_path: Path) -> None:
    execute(
        source,
        f"""CREATE TABLE s.t (id int PRIMARY KEY, "no te" text, name varchar(30), lang regconfig,
              one tsvector, two tsvector, three tsvector NOT NULL, four tsvector);
            CREATE TRIGGER one BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION
              tsvector_update_trigger(one, 'pg_catalog.english', "no te", name);
            CREATE TRIGGER two BEFORE INSERT OR UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION
              tsvector_update_trigger_column(two, lang, name);
            INSERT INTO s.t VALUES (1, '{CANARY}', '{CANARY}', 'simple', '', '',
              '{CANARY.lower()}:1', '{CANARY.lower()}')""",
    )
    plan = plan_of(
        source, tmp_path, '[safe]\ntypes = ["regconfig"]\n["s.t"]\n"no te" = "hash"\nname = "name"'
    )
    plan.require_complete()
    [row] = masked(source, plan, "s.t")
    assert CANARY.lower() not in str(row).lower()
    assert row["no te"] in row["one"]
    assert row["name"].split()[0].lower() in row["two"]
    assert row["three"] == ""
    assert row["four"] is None
    # What the trigger itself would write.
    execute(source, "CREATE TABLE s.again (LIKE s.t); CREATE TRIGGER one BEFORE INSERT ON s.again "
                    "FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger(one, "
                    "'pg_catalog.english', \"no te\", name)")  # fmt: skip
    execute(source, "INSERT INTO s.again SELECT * FROM pg_temp.arrived")
    assert fetch_value(source, "SELECT one::text FROM s.again") == row["one"]
    assert len([note for note in plan.notes if "left empty" in note]) == 2


def test_large_objects_stay_behind_unless_kept(source: Connection, tmp_path: Path) -> None:
    execute(source, "SELECT lo_from_bytea(0, 'scan')")
    plan = plan_of(source, tmp_path, "")
    assert not plan.large_objects
    assert "1 large object stays behind" in plan.notes[0]
    assert plan_of(source, tmp_path, "[large_objects]\nkeep = true").large_objects


HOSTILE = ['we"ird', "a b", "o'x", "ä%s", "back\\slash", "$$;--", "select", "valu.e", "د", "\u007f"]


def test_hostile_names_mean_themselves(source: Connection, tmp_path: Path) -> None:
    columns = {name: '"' + name.replace('"', '""') + '"' for name in HOSTILE}
    listed = ", ".join(f"{name} text" for name in columns.values())
    values = ", ".join(f"'{CANARY}'" for _ in columns)
    table = """s."t %s '\"\"\""""
    document = json.dumps({"%'": CANARY, CANARY: 1}).replace("'", "''")
    execute(source, f"CREATE TABLE {table} (id int PRIMARY KEY, {listed}, j jsonb)")
    execute(source, f"INSERT INTO {table} VALUES (1, {values}, '{document}')")
    plan = plan_of(source, tmp_path, "")
    text = suggest_rules(
        [(each.table, each.column) for each in plan.missing], survey_tables(source)
    )
    text = text.replace("paths = {}", 'paths = { "%\'" = "hash" }')
    plan = plan_of(source, tmp_path, text)
    plan.require_complete()
    [expressions] = plan.columns.values()
    assert set(expressions) == {*HOSTILE, "j"}
    for setting, value in session_settings(KEY).items():
        execute(source, "SELECT set_config(%s, %s, false)", [setting, value])
    chosen = ", ".join(expressions.values())
    [row] = fetch_all(source, f"SELECT {chosen} FROM ONLY {table}")
    assert CANARY not in str(row)
    assert set(row[-1]) == {"%'"}


def test_what_is_suggested_covers_everything(source: Connection, tmp_path: Path) -> None:
    execute(source, EVERY)
    execute(source, SHOP)
    execute(source, (REPOSITORY / "dbops/sample/clinic.sql").read_text())
    execute(source, "ALTER TABLE clinic.branches DROP COLUMN code")  # three letters, unique
    execute(
        source,
        """SET search_path = pg_catalog, pg_temp;
           CREATE TABLE s.odd (a inet NOT NULL, b oid NOT NULL, c interval NOT NULL,
             d daterange NOT NULL, e point NOT NULL, f time NOT NULL, phone int8,
             tax_id numeric NOT NULL, g date NOT NULL, h text[] NOT NULL, i date[] NOT NULL,
             k bytea NOT NULL, l bit(3) NOT NULL, m oid);
           INSERT INTO s.odd VALUES ('10.0.0.1', 1, '1 day', '[2024-01-01,2024-01-02)', '(1,2)',
             '10:00', 1, 1, '2024-01-01', '{a}', '{2024-01-01}', 'a', '101', 1)""",
    )
    plan = plan_of(source, tmp_path, "")
    assert plan.missing
    text = suggest_rules(
        [(each.table, each.column) for each in plan.missing], survey_tables(source)
    )
    tables = survey_tables(source)
    guessed = plan_of(source, tmp_path, text)
    assert guessed.missing == ()
    kept = [each for each in guessed.decisions if each.how == "keep"]
    assert all(tables[each.table].columns[each.column].base != "text" for each in kept)
    # What is left are constraints of the table's own, which only its people know how to satisfy.
    assert all("break the constraint" in problem for problem in guessed.problems), guessed.problems


def test_the_shipped_rules_cover_the_sample(source: Connection) -> None:
    execute(source, (REPOSITORY / "dbops/sample/clinic.sql").read_text())
    execute(source, "SET search_path = pg_catalog, pg_temp")
    plan = plan_masks(source, load_rules(REPOSITORY / "skinspire/masking.toml"))
    plan.require_complete()
    before = fetch_all(
        source,
        """SELECT given_name || ' ' || family_name, phone, email::text, national_id,
                  medical_history -> 'contact' ->> 'phone' FROM clinic.patients""",
    )
    rows = masked(source, plan, "clinic.patients")
    text = str([{key: row[key] for key in row if key != "search"} for row in rows])
    for originals in before[:500]:
        assert not [value for value in originals[1:] if value and value.strip() in text]
    logins = {row["username"] for row in masked(source, plan, "clinic.staff")}
    assert {row["created_by"] for row in rows} & logins


# ------------------------------------------------------------------------------------ the file


@pytest.mark.parametrize(
    ("toml", "sentences"),
    [
        ('["s.t"]\na = "nmae"', ["s.t.a", "no strategy 'nmae'", "free_text"]),
        ('["s.t"]\na = 3', ["s.t.a", "write the strategy in quotes"]),
        ('["s.t"]\na = { strategy = "name", part = "middle" }', ["s.t.a", "full, first, last"]),
        ('["s.t"]\na = { strategy = "hash", part = "x" }', ["hash has no option 'part'"]),
        ('["s.t"]\na = "constant"', ["s.t.a", "needs its value"]),
        ('["s.t"]\na = { strategy = "date_shift", days = 0 }', ["from 1 to 3650"]),
        ('["s.t"]\na = { strategy = "date_shift", person = 3 }', ["name of a column"]),
        ('["s.t"]\na = { strategy = "jsonb", paths = { "a..b" = "keep" } }', ["'a..b' is no path"]),
        ('["s.t"]\na = { strategy = "jsonb", paths = { a = "keep", "a.b" = "name" } }',
         ["at a.b", "another path"]),
        ('["s.t"]\nrows = "drop"', ["rows is 'drop'", "leave out"]),
        ('[public.patients]\na = "keep"', ['["schema.table"]']),
        ('[patients]\na = "keep"', ['["schema.table"]']),
        ("[safe]\ntype = []", ["[safe]", "types (list)"]),
        ("[large_objects]\nkeep = 1", ["[large_objects]", "keep (bool)"]),
        ('["s.t"]\na = "keep\nb = 1', ["no valid TOML", "line 2"]),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_one_sentence(
    tmp_path: Path, toml: str, sentences: list[str]
) -> None:
    file = tmp_path / "masking.toml"
    file.write_text(toml)
    with pytest.raises(MaskingError) as caught:
        load_rules(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    for sentence in sentences:
        assert sentence in str(caught.value)


def test_the_tables_own_section_is_asked_first(tmp_path: Path) -> None:
    file = tmp_path / "masking.toml"
    file.write_text(
        '["s.*"]\na = "hash"\nb = "hash"\nrows = "leave out"\n["*.t"]\nb = "null"\nc = "null"\n'
        '["s.t"]\na = "keep"\nrows = "keep"'
    )
    rules = load_rules(file)
    found = {column: rules.rule("s.t", column) for column in "abcd"}
    assert {column: rule and rule.strategy for column, rule in found.items()} == {
        "a": "keep", "b": "hash", "c": "null", "d": None,
    }  # fmt: skip
    assert rules.leaves_out("s.other")
    assert not rules.leaves_out("s.t")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MaskingError, match="cannot be read: No such file"):
        load_rules(tmp_path / "none.toml")
