"""Triggers on real servers: what rows look like, what is refused, what is told."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg2 import sql

from dbops.exceptions import (
    ConnectionFailedError,
    LockedError,
    OperationCancelled,
    PreflightError,
    PrivilegeError,
    StampError,
    StatementError,
)
from dbops.operations.context import OperationContext
from dbops.operations.triggers import (
    ApplyTriggersRequest,
    apply_base_triggers,
)
from dbops.postgres import triggers
from dbops.postgres.connection import (
    Connection,
    execute,
    fetch_all,
    fetch_row,
    fetch_value,
    session,
    transaction,
)
from dbops.postgres.params import ConnectionParams
from dbops.postgres.stamp import read_stamp, write_stamp
from dbops.postgres.triggers import survey
from tests.triggering import CONTEXT, apply, catalogue, install, verify

ALL_COLUMNS = """id integer, note text, created_at timestamptz, updated_at timestamptz,
                 created_by varchar(15), updated_by text"""
LONG_AGO = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
HOSTILE_NAMES = [
    'quo"te', "apo'strophe", "per%cent %s %(x)s", "$$dollar$$; DROP TABLE public.t; --",
    "back\\slash {brace} {trigger}", "x" * 63, "מרפאה\u202eabc", "new\nline", " ",
]  # fmt: skip


@pytest.fixture
def db(empty_database: ConnectionParams) -> Iterator[Connection]:
    with session(empty_database) as connection:
        yield connection


@pytest.fixture
def other_role(superuser: ConnectionParams) -> Iterator[str]:
    """Another ordinary role of the server, which owns nothing yet."""
    name = f"other_{secrets.token_hex(4)}"
    with session(superuser) as connection:
        execute(connection, f"CREATE ROLE {name}")
    yield name
    with session(superuser) as connection:
        databases = fetch_all(connection, "SELECT datname FROM pg_database WHERE datallowconn")
    for (database,) in databases:
        # Other tests drop their databases meanwhile.
        with (
            suppress(ConnectionFailedError),
            session(superuser.with_database(database)) as connection,
        ):
            execute(connection, f"DROP OWNED BY {name} CASCADE")
    with session(superuser) as connection:
        execute(connection, f"DROP ROLE {name}")


def make(connection: Connection, name: str = "public.t", columns: str = ALL_COLUMNS) -> None:
    execute(connection, f"CREATE TABLE {name} ({columns})")


def trigger_tables(connection: Connection) -> set[str]:
    """Tables that bear a trigger of their own, whoever made it."""
    rows = fetch_all(
        connection,
        """SELECT tgrelid::regclass::text FROM pg_trigger
            WHERE NOT tgisinternal AND tgparentid = 0""",
    )
    return {name for (name,) in rows}


def table_id(connection: Connection, *name: str) -> str:
    return sql.Identifier(*name).as_string(connection)


@contextmanager
def holding(params: ConnectionParams, table: str) -> Iterator[None]:
    """Another session that holds a table for itself."""
    with session(params) as other, transaction(other):
        execute(other, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


# What rows look like


def test_an_insert_is_stamped_with_time_and_actor(db: Connection) -> None:
    make(db)
    install(db)
    execute(db, "SELECT set_config('skinspire.actor', 'dr.mehta', false)")
    row = fetch_row(
        db,
        """INSERT INTO public.t (id) VALUES (1) RETURNING created_at, updated_at,
           created_by, updated_by, statement_timestamp()""",
    )
    assert row is not None
    created_at, updated_at, created_by, updated_by, now = row
    assert created_at == updated_at == now
    assert (created_by, updated_by) == ("dr.mehta", "dr.mehta")


def test_given_values_survive_an_insert(db: Connection) -> None:
    make(db)
    install(db)
    row = fetch_row(
        db,
        """INSERT INTO public.t VALUES (1, '', %s, %s, 'import', 'import')
           RETURNING created_at, updated_at, created_by, updated_by""",
        [LONG_AGO, LONG_AGO],
    )
    assert row == (LONG_AGO, LONG_AGO, "import", "import")


def test_an_update_moves_what_is_updated_and_keeps_what_is_created(db: Connection) -> None:
    make(db)
    install(db)
    execute(
        db, "INSERT INTO public.t VALUES (1, '', %s, %s, 'first', 'first')", [LONG_AGO, LONG_AGO]
    )
    execute(db, "SELECT set_config('skinspire.actor', 'second', false)")
    row = fetch_row(
        db,
        """UPDATE public.t SET created_at = '1999-01-01', updated_at = '1999-01-01',
                  created_by = 'forged', updated_by = 'forged'
           RETURNING created_at, updated_at = statement_timestamp(), created_by, updated_by""",
    )
    assert row == (LONG_AGO, True, "first", "second")


def test_updated_at_moves_within_one_transaction(db: Connection) -> None:
    make(db)
    install(db)
    with transaction(db):
        inserted = fetch_value(db, "INSERT INTO public.t (id) VALUES (1) RETURNING updated_at")
        time.sleep(0.002)
        updated = fetch_value(db, "UPDATE public.t SET note = 'x' RETURNING updated_at")
    assert updated > inserted


@pytest.mark.parametrize("column", ["created_by varchar(15)", "updated_by char(15)"])
def test_the_actor_is_shortened_to_the_column(db: Connection, column: str) -> None:
    """Fault 43: by characters, not bytes."""
    make(db, columns=f"id integer, {column}")
    install(db)
    name = "dr.é" + "x" * 40
    execute(db, "SELECT set_config('skinspire.actor', %s, false)", [name])
    execute(db, "INSERT INTO public.t (id) VALUES (1)")
    assert fetch_value(db, f"SELECT {column.split()[0]} FROM public.t") == name[:15]


def test_each_actor_column_has_its_own_length(db: Connection) -> None:
    make(db, columns="id integer, created_by varchar, updated_by varchar(3)")
    install(db)
    execute(db, "SELECT set_config('skinspire.actor', 'abcdefgh', false)")
    execute(db, "INSERT INTO public.t (id) VALUES (1)")
    assert fetch_row(db, "SELECT created_by, updated_by FROM public.t") == ("abcdefgh", "abc")


def test_without_an_actor_the_session_role_acts(db: Connection) -> None:
    make(db)
    install(db)
    role = fetch_value(db, "SELECT session_user::text")
    statement = "INSERT INTO public.t (id) VALUES (1) RETURNING updated_by"
    assert fetch_value(db, statement) == role
    with transaction(db):
        execute(db, "SELECT set_config('skinspire.actor', 'somebody', true)")
        assert fetch_value(db, statement) == "somebody"
    # What a transaction had set is empty afterwards, which is nobody.
    assert fetch_value(db, statement) == role


@pytest.mark.parametrize(
    ("column", "changes"),
    [
        ("created_at timestamptz", False),
        ("updated_at timestamptz", True),
        ("created_by text", False),
        ("updated_by text", True),
    ],
)
def test_one_column_alone_is_served(db: Connection, column: str, changes: bool) -> None:
    make(db, columns=f"id integer, {column}")
    assert install(db).triggers == 1
    name = column.split()[0]
    execute(db, "SELECT set_config('skinspire.actor', 'first', false)")
    inserted = fetch_value(db, f"INSERT INTO public.t (id) VALUES (1) RETURNING {name}")
    assert inserted is not None
    execute(db, "SELECT set_config('skinspire.actor', 'second', false)")
    updated = fetch_value(db, f"UPDATE public.t SET {name} = NULL RETURNING {name}")
    assert updated is not None
    assert (updated != inserted) is changes


def test_local_times_and_dates_are_stamped(db: Connection) -> None:
    make(db, columns="id integer, created_at date, updated_at timestamp")
    install(db)
    execute(db, "INSERT INTO public.t (id) VALUES (1)")
    near = "created_at BETWEEN current_date - 1 AND current_date"
    near += " AND localtimestamp - updated_at < interval '1 minute'"
    assert fetch_value(db, f"SELECT {near} FROM public.t")
    # A local time that the session's zone skips is kept as it was given.
    execute(db, "SET timezone = 'Europe/Berlin'")
    execute(db, "INSERT INTO public.t VALUES (2, '2024-03-31', '2024-03-31 02:30')")
    kept = fetch_value(db, "SELECT updated_at::text FROM public.t WHERE id = 2")
    assert kept == "2024-03-31 02:30:00"


def test_an_upsert_counts_as_an_update(db: Connection) -> None:
    make(db, columns=f"{ALL_COLUMNS}, PRIMARY KEY (id)")
    install(db)
    execute(db, "INSERT INTO public.t VALUES (1, '', %s, %s)", [LONG_AGO, LONG_AGO])
    created, moved = fetch_all(
        db,
        """INSERT INTO public.t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'again'
           RETURNING created_at, updated_at = statement_timestamp()""",
    )[0]
    assert (created, moved) == (LONG_AGO, True)


def test_a_role_that_may_only_insert_is_stamped_and_cannot_reach_the_functions(
    db: Connection, superuser: ConnectionParams, other_role: str
) -> None:
    """Fault 42: a trigger needs no right of whoever fires it."""
    make(db)
    install(db)
    execute(db, f"GRANT INSERT, SELECT ON public.t TO {other_role}")
    rights = fetch_all(
        db,
        """SELECT proname, has_function_privilege(%s, oid, 'EXECUTE') FROM pg_proc
            WHERE pronamespace = 'skinspire'::regnamespace ORDER BY 1""",
        [other_role],
    )
    assert rights == [(name, False) for name in sorted(survey.FUNCTIONS)]
    database = fetch_value(db, "SELECT current_database()")
    with session(superuser.with_database(database)) as other:
        execute(other, f"SET ROLE {other_role}")
        execute(other, "INSERT INTO public.t (id) VALUES (1)")
    assert fetch_value(db, "SELECT updated_at IS NOT NULL FROM public.t")


def test_a_session_that_fired_a_trigger_learns_of_a_wider_column(db: Connection) -> None:
    make(db, columns="id integer, updated_by varchar(4)")
    install(db)
    execute(db, "SELECT set_config('skinspire.actor', 'dr.mehta', false)")
    execute(db, "INSERT INTO public.t (id) VALUES (1)")
    execute(db, "ALTER TABLE public.t ALTER updated_by TYPE varchar(8)")
    install(db)
    assert fetch_value(db, "UPDATE public.t SET id = 2 RETURNING updated_by") == "dr.mehta"


# Where they are put


def test_partitions_are_stamped_through_the_parent_and_directly(db: Connection) -> None:
    """Fault 43: those that come later, too."""
    make(db, "public.visits", f"{ALL_COLUMNS}) PARTITION BY RANGE (id")
    execute(db, "CREATE TABLE public.low PARTITION OF public.visits FOR VALUES FROM (0) TO (10)")
    install(db)
    execute(db, "CREATE TABLE public.high PARTITION OF public.visits FOR VALUES FROM (10) TO (20)")
    assert trigger_tables(db) == {"public.visits"}
    for table, number in (("visits", 1), ("low", 2), ("visits", 11), ("high", 12)):
        execute(db, f"INSERT INTO public.{table} (id) VALUES (%s)", [number])
    assert fetch_value(db, "SELECT count(updated_at) FROM public.visits") == 4
    # A row that moves to another partition is an update all the same.
    before = fetch_value(db, "SELECT created_at FROM public.low WHERE id = 1")
    execute(db, "UPDATE public.visits SET id = 15, created_at = '1999-01-01' WHERE id = 1")
    row = fetch_row(db, "SELECT created_at, updated_at > created_at FROM public.high WHERE id = 15")
    assert row == (before, True)
    assert not triggers.status(db).drift


def test_a_table_that_had_our_triggers_may_become_a_partition(db: Connection) -> None:
    make(db, "public.part")
    install(db)
    make(db, "public.whole", f"{ALL_COLUMNS}) PARTITION BY RANGE (id")
    execute(db, "ALTER TABLE public.whole ATTACH PARTITION public.part DEFAULT")
    install(db)
    assert trigger_tables(db) == {"public.whole"}
    assert not triggers.status(db).drift
    before = catalogue(db)
    install(db)
    assert catalogue(db) == before


def test_columns_of_another_type_are_skipped_and_named(db: Connection) -> None:
    """Fault 43: what cannot be stamped is left alone, and told with its reason."""
    execute(db, "CREATE DOMAIN public.moment AS timestamptz")
    make(
        db,
        columns="""id integer, created_at public.moment, updated_at integer, created_by integer,
                   updated_by text GENERATED ALWAYS AS ('x') STORED""",
    )
    make(db, "public.half", "id integer, created_at timestamptz, updated_at numeric(8,2)")
    result = install(db)
    assert result.skipped == (
        "public.half: updated_at is numeric(8,2)",
        "public.t: created_at is public.moment",
        "public.t: created_by is integer",
        "public.t: updated_at is integer",
        "public.t: updated_by is generated",
    )
    assert trigger_tables(db) == {"public.half"}
    execute(db, "INSERT INTO public.half (id) VALUES (1)")
    row = fetch_row(db, "SELECT created_at IS NOT NULL, updated_at FROM public.half")
    assert row == (True, None)


def test_views_foreign_temporary_and_unnamed_tables_are_left_alone(
    db: Connection, superuser: ConnectionParams
) -> None:
    """Fault 43: those that have our columns are told with the reason."""
    make(db)
    make(db, "public.plain", "id integer")
    execute(db, "CREATE TEMPORARY TABLE temporary (updated_at timestamptz)")
    execute(db, "CREATE VIEW public.v AS SELECT * FROM public.t")
    execute(db, "CREATE MATERIALIZED VIEW public.m AS SELECT * FROM public.t")
    database = fetch_value(db, "SELECT current_database()")
    with session(superuser.with_database(database)) as privileged:
        execute(privileged, "CREATE FOREIGN DATA WRAPPER nowhere")
        execute(privileged, "CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere")
        execute(privileged, "CREATE FOREIGN TABLE public.f (updated_at timestamptz) SERVER nowhere")
    result = install(db)
    assert (result.triggers, result.tables) == (2, 1)
    assert result.skipped == (
        "public.f: is a foreign table",
        "public.m: is a materialised view",
        "public.v: is a view",
    )
    assert trigger_tables(db) == {"public.t"}


def test_one_schema_or_all(db: Connection) -> None:
    execute(db, "CREATE SCHEMA billing")
    make(db)
    make(db, "billing.t")
    assert install(db, schemas=["billing"]).tables == 1
    assert trigger_tables(db) == {"billing.t"}
    assert install(db).tables == 2
    assert trigger_tables(db) == {"billing.t", "public.t"}


@pytest.mark.parametrize("schema", ["nowhere", "pg_catalog", "skinspire", "information_schema"])
def test_an_unknown_schema_is_named(db: Connection, schema: str) -> None:
    with pytest.raises(PreflightError, match=schema):
        install(db, schemas=["public", schema])


def test_functions_alone(db: Connection) -> None:
    make(db)
    result = install(db, base_only=True)
    assert (result.functions, result.triggers, result.tables) == (11, 0, 0)
    assert not trigger_tables(db)
    made = fetch_value(
        db, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'skinspire'::regnamespace"
    )
    assert made == 11


def test_tables_with_hostile_names(db: Connection) -> None:
    for name in HOSTILE_NAMES:
        execute(db, f"CREATE SCHEMA {table_id(db, name)}")
        make(db, table_id(db, name, name))
    assert install(db).triggers == 2 * len(HOSTILE_NAMES)
    for name in HOSTILE_NAMES:
        table = table_id(db, name, name)
        execute(db, f"INSERT INTO {table} (id) VALUES (1)")
        assert fetch_value(db, f"SELECT updated_at IS NOT NULL FROM {table}")
    assert set(triggers.status(db).installed) == {
        f"{name}.{name}: {trigger}"
        for name in HOSTILE_NAMES
        for trigger in ("skinspire_actors", "skinspire_timestamps")
    }


# All or nothing, and nothing twice


def test_installed_twice_is_the_same_catalogue(db: Connection) -> None:
    """Fault 39: not a row of the catalogue is written again."""
    make(db)
    make(db, "public.visits", f"{ALL_COLUMNS}) PARTITION BY RANGE (id")
    execute(db, "CREATE TABLE public.low PARTITION OF public.visits DEFAULT")
    first = install(db)
    before = catalogue(db)
    second = install(db)
    assert catalogue(db) == before
    assert (first.triggers, first.tables) == (second.triggers, second.tables) == (4, 2)
    assert first.statements
    assert second.statements == ()


def test_a_locked_table_is_named_and_nothing_is_installed(
    db: Connection, empty_database: ConnectionParams
) -> None:
    for name in ("public.a", 'public."b\'s; table"', "public.z"):
        make(db, name)
    before = catalogue(db)
    with (
        holding(empty_database, 'public."b\'s; table"'),
        pytest.raises(LockedError, match=r"public\.b's; table .* 0\.2 s"),
    ):
        install(db, lock_timeout=0.2)
    assert catalogue(db) == before
    assert install(db).tables == 3


def test_a_failure_at_any_table_installs_nothing_and_names_it(db: Connection) -> None:
    """Fault 40: the catalogue is what it was, and the table is told."""
    make(db, "public.a")
    make(db, "public.b")
    install(db, base_only=True)
    # A constraint trigger of our name is the one thing that cannot be replaced.
    execute(db, "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
    execute(
        db,
        """CREATE CONSTRAINT TRIGGER skinspire_actors AFTER INSERT ON public.b
           FOR EACH ROW EXECUTE FUNCTION public.f()""",
    )
    before = catalogue(db)
    with pytest.raises(StatementError, match=r"public\.b.*constraint trigger"):
        install(db)
    assert catalogue(db) == before


def test_a_cancel_while_waiting_installs_nothing(
    db: Connection, empty_database: ConnectionParams
) -> None:
    make(db)
    before = catalogue(db)
    context = OperationContext("0123456789ab")
    timer = threading.Timer(0.3, context.cancelled.set)
    timer.start()
    began = time.monotonic()
    with holding(empty_database, "public.t"), pytest.raises(OperationCancelled):
        triggers.install(db, poll=context.check_cancelled)
    assert time.monotonic() - began < 3
    assert catalogue(db) == before


def test_every_table_of_somebody_else_is_named_and_nothing_is_installed(
    db: Connection, superuser: ConnectionParams, other_role: str
) -> None:
    for name in ("mine", "theirs", "also_theirs"):
        make(db, f"public.{name}")
    make(db, "public.whole", f"{ALL_COLUMNS}) PARTITION BY RANGE (id")
    execute(db, "CREATE TABLE public.their_part PARTITION OF public.whole DEFAULT")
    theirs = ("theirs", "also_theirs", "their_part")
    database = superuser.with_database(fetch_value(db, "SELECT current_database()"))
    with session(database) as privileged:
        for name in theirs:
            execute(privileged, f"ALTER TABLE public.{name} OWNER TO {other_role}")
    before = catalogue(db)
    for attempt in (install, triggers.plan):
        with pytest.raises(PrivilegeError) as refused:
            attempt(db)
        assert all(f"table public.{name}" in str(refused.value) for name in theirs)
        assert "mine" not in str(refused.value)
    assert catalogue(db) == before
    with session(database) as privileged:
        role = fetch_value(db, "SELECT quote_ident(session_user)")
        execute(privileged, f"GRANT {other_role} TO {role}")
    assert install(db).tables == 4


def test_functions_of_somebody_else_are_named(
    db: Connection, superuser: ConnectionParams, other_role: str
) -> None:
    make(db)
    install(db, base_only=True)
    database = superuser.with_database(fetch_value(db, "SELECT current_database()"))
    with session(database) as privileged:
        execute(privileged, f"ALTER FUNCTION skinspire.set_actors() OWNER TO {other_role}")
    with pytest.raises(PrivilegeError, match=r"function skinspire\.set_actors"):
        install(db)
    assert not trigger_tables(db)


# Hostile surroundings


HOSTILE = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql
    AS $$SELECT '1980-01-01'::timestamptz$$;
CREATE FUNCTION hostile.statement_timestamp() RETURNS timestamptz LANGUAGE sql
    AS $$SELECT '1980-01-01'::timestamptz$$;
CREATE FUNCTION hostile.current_setting(text, boolean) RETURNS text LANGUAGE sql
    AS $$SELECT 'mallory'$$;
CREATE FUNCTION hostile."left"(text, integer) RETURNS text LANGUAGE sql AS $$SELECT 'mallory'$$;
CREATE FUNCTION hostile.lies(text, text) RETURNS boolean LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'hostile operator used'; END$$;
CREATE OPERATOR hostile.= (FUNCTION = hostile.lies, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR hostile.<> (FUNCTION = hostile.lies, LEFTARG = text, RIGHTARG = text);
CREATE DOMAIN hostile.text AS pg_catalog.text CHECK (VALUE IS NULL);
CREATE DOMAIN hostile.int4 AS pg_catalog.int4 CHECK (VALUE IS NULL);
CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql
    AS $$SELECT '1980-01-01'::timestamptz$$;
"""


def test_a_hostile_search_path_changes_nothing(db: Connection) -> None:
    """Fault 41: functions, operators and types of these names are not ours."""
    make(db)
    make(db, "public.c", "id integer, created_at timestamptz, created_by varchar(15)")
    make(db, "public.u", "id integer, updated_at timestamptz, updated_by varchar(15)")
    execute(db, HOSTILE)
    install(db)
    execute(db, "SET search_path = hostile, public, pg_catalog")
    execute(db, "SELECT set_config('skinspire.actor', 'dr.mehta', false)")
    for table in "tcu":
        execute(db, f"INSERT INTO public.{table} (id) VALUES (1)")
        execute(db, f"UPDATE public.{table} SET id = 2")
    execute(db, "SET search_path = pg_catalog")
    recent = "clock_timestamp() - interval '1 minute'"
    assert fetch_row(
        db,
        f"""SELECT t.created_at > {recent}, t.updated_at > {recent}, t.created_by, t.updated_by,
                   c.created_at > {recent}, c.created_by, u.updated_at > {recent}, u.updated_by
              FROM public.t, public.c, public.u""",
    ) == (True, True, "dr.mehta", "dr.mehta", True, "dr.mehta", True, "dr.mehta")


def test_a_database_with_a_hostile_search_path_is_installed_all_the_same(
    db: Connection, empty_database: ConnectionParams
) -> None:
    make(db)
    execute(db, HOSTILE)
    name = table_id(db, empty_database.database)
    execute(db, f"ALTER DATABASE {name} SET search_path = hostile, public, pg_catalog")
    with session(empty_database) as connection:
        assert install(connection).triggers == 2
        assert not triggers.status(connection).drift


# Drift


def test_states_are_told_apart_and_mended(db: Connection) -> None:
    for name in "abcde":
        make(db, f"public.{name}")
    install(db)
    execute(db, "ALTER TABLE public.a DISABLE TRIGGER skinspire_actors")
    execute(db, "ALTER TABLE public.a ENABLE REPLICA TRIGGER skinspire_timestamps")
    execute(db, "DROP TRIGGER skinspire_actors ON public.b")
    execute(db, "ALTER TABLE public.c ALTER created_by TYPE varchar(30)")
    execute(db, "ALTER TABLE public.d DROP created_at, DROP updated_at")
    execute(db, "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
    execute(
        db,
        """CREATE TRIGGER audit AFTER INSERT ON public.e FOR EACH ROW
           EXECUTE FUNCTION public.f()""",
    )
    found = triggers.status(db)
    assert found.disabled == ("public.a: skinspire_actors", "public.a: skinspire_timestamps")
    assert found.missing == ("public.b: skinspire_actors",)
    assert found.outdated == ("public.c: skinspire_actors", "public.d: skinspire_timestamps")
    assert found.foreign == ("public.e: audit",)
    assert len(found.installed) == 5
    assert found.drift

    assert len(install(db).statements) == 5
    mended = triggers.status(db)
    assert not mended.drift
    assert len(mended.installed) == 9
    assert mended.foreign == ("public.e: audit",)


@pytest.mark.parametrize(
    "tampering",
    [
        """CREATE OR REPLACE FUNCTION skinspire.set_timestamps() RETURNS trigger
           LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'""",
        "ALTER FUNCTION skinspire.set_timestamps() SECURITY DEFINER",
        "ALTER FUNCTION skinspire.set_timestamps() SET search_path = public",
        "GRANT EXECUTE ON FUNCTION skinspire.set_timestamps() TO PUBLIC",
        "COMMENT ON FUNCTION skinspire.set_timestamps() IS NULL",
        "COMMENT ON TRIGGER skinspire_timestamps ON public.t IS 'skinspire:0'",
        """CREATE OR REPLACE TRIGGER skinspire_timestamps BEFORE INSERT ON public.t
           FOR EACH ROW EXECUTE FUNCTION skinspire.set_timestamps()""",
        """CREATE OR REPLACE TRIGGER skinspire_timestamps BEFORE INSERT OR UPDATE OF note
           ON public.t FOR EACH ROW EXECUTE FUNCTION skinspire.set_timestamps()""",
        """CREATE OR REPLACE TRIGGER skinspire_timestamps BEFORE INSERT OR UPDATE ON public.t
           FOR EACH ROW WHEN (NEW.id > 5) EXECUTE FUNCTION skinspire.set_timestamps()""",
        """CREATE OR REPLACE TRIGGER skinspire_timestamps BEFORE INSERT OR UPDATE ON public.t
           FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()""",
        """CREATE OR REPLACE TRIGGER skinspire_timestamps BEFORE INSERT OR UPDATE ON public.t
           FOR EACH ROW EXECUTE FUNCTION skinspire.set_timestamps('15')""",
    ],
)
def test_tampering_is_outdated_and_mended(db: Connection, tampering: str) -> None:
    make(db)
    install(db)
    execute(db, tampering)
    found = triggers.status(db)
    assert found.outdated == ("public.t: skinspire_timestamps",)
    assert found.installed == ("public.t: skinspire_actors",)
    install(db)
    assert not triggers.status(db).drift
    row = fetch_row(
        db,
        """INSERT INTO public.t (id) VALUES (1)
           RETURNING created_at IS NOT NULL, updated_at IS NOT NULL""",
    )
    assert row == (True, True)


def test_a_trigger_both_outdated_and_disabled_is_mended(db: Connection) -> None:
    make(db)
    install(db)
    execute(db, "ALTER TABLE public.t ALTER created_by TYPE varchar(30)")
    execute(db, "ALTER TABLE public.t DISABLE TRIGGER ALL")
    assert triggers.status(db).outdated == ("public.t: skinspire_actors",)
    install(db)
    assert not triggers.status(db).drift


def test_an_older_version_of_ours_is_replaced(
    db: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(db)
    for path in survey._FILES.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("-- ", "-- Once: "))
    with monkeypatch.context() as patched:
        patched.setattr(survey, "_FILES", tmp_path)
        survey.file.cache_clear()
        survey.sources.cache_clear()
        install(db)
        assert not triggers.status(db).drift
    survey.file.cache_clear()
    survey.sources.cache_clear()
    functions = fetch_all(db, "SELECT oid FROM pg_proc WHERE proname ~ '^set_' ORDER BY 1")
    assert len(triggers.status(db).outdated) == 2
    install(db)
    assert not triggers.status(db).drift
    again = fetch_all(db, "SELECT oid FROM pg_proc WHERE proname ~ '^set_' ORDER BY 1")
    assert again == functions


def test_one_disabled_partition_is_told_and_mended(db: Connection) -> None:
    make(db, "public.whole", f"{ALL_COLUMNS}) PARTITION BY RANGE (id")
    execute(db, "CREATE TABLE public.part PARTITION OF public.whole DEFAULT")
    install(db)
    execute(db, "ALTER TABLE public.part DISABLE TRIGGER skinspire_actors")
    assert triggers.status(db).disabled == ("public.part: skinspire_actors",)
    install(db)
    assert not triggers.status(db).drift
    # A parent that has lost its columns takes the partition's trigger along, disabled or not.
    execute(db, "ALTER TABLE public.part DISABLE TRIGGER skinspire_actors")
    execute(db, "ALTER TABLE public.whole DROP created_by, DROP updated_by")
    install(db)
    found = triggers.status(db)
    assert (found.drift, found.installed) == (False, ("public.whole: skinspire_timestamps",))


def test_foreign_triggers_keep_what_they_are(db: Connection) -> None:
    make(db)
    execute(db, "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'")
    execute(
        db,
        "CREATE TRIGGER theirs AFTER INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.f()",
    )
    execute(db, "ALTER TABLE public.t DISABLE TRIGGER theirs")
    state = "SELECT oid, xmin, tgenabled FROM pg_trigger WHERE tgname = 'theirs'"
    before = fetch_row(db, state)
    install(db)
    assert fetch_row(db, state) == before
    found = triggers.status(db)
    assert (found.foreign, found.drift) == (("public.t: theirs",), False)


def test_the_digest_is_the_same_in_a_copy_and_changes_with_every_state(
    db: Connection, empty_database: ConnectionParams
) -> None:
    make(db)
    assert triggers.digest(db) == ""
    install(db)
    made = triggers.digest(db)
    assert len(made) == 64
    db.close()
    copy = f"{empty_database.database}_copy"
    with session(empty_database.with_database("postgres")) as control:
        execute(control, f"CREATE DATABASE {copy} TEMPLATE {empty_database.database}")
        try:
            with session(empty_database.with_database(copy)) as copied:
                assert triggers.digest(copied) == made
                execute(copied, "ALTER TABLE public.t DISABLE TRIGGER skinspire_actors")
                disabled = triggers.digest(copied)
                execute(copied, "DROP TRIGGER skinspire_actors ON public.t")
                dropped = triggers.digest(copied)
        finally:
            execute(control, f"DROP DATABASE {copy} WITH (FORCE)")
    assert len({made, disabled, dropped}) == 3


# The operations


def test_a_dry_run_says_what_would_happen_and_does_nothing(
    db: Connection, empty_database: ConnectionParams
) -> None:
    write_stamp(db, "dev")
    make(db)
    before = catalogue(db)
    planned = apply(empty_database, dry_run=True)
    assert catalogue(db) == before
    assert any("public" in s and "skinspire_timestamps" in s for s in planned.statements)
    done = apply(empty_database)
    assert (done.functions, done.triggers, done.tables) == (11, 2, 1)
    assert (planned.functions, planned.triggers, planned.tables) == (11, 2, 1)
    assert apply(empty_database, dry_run=True).statements == ()


def test_apply_then_verify(db: Connection, empty_database: ConnectionParams) -> None:
    write_stamp(db, "dev")
    make(db)
    assert verify(empty_database).drift
    request = ApplyTriggersRequest(empty_database, "dev", schemas=("public",))
    assert apply_base_triggers(request, CONTEXT).functions == 11
    assert len(verify(empty_database).missing) == 2
    apply(empty_database, schemas=("public",))
    found = verify(empty_database)
    assert found.installed == ("public.t: skinspire_actors", "public.t: skinspire_timestamps")
    assert not found.drift


def test_a_database_of_another_environment_is_refused(
    db: Connection, empty_database: ConnectionParams
) -> None:
    make(db)
    with pytest.raises(StampError, match="never taken in"):
        apply(empty_database)
    write_stamp(db, "prod")
    for attempt in (apply, verify):
        with pytest.raises(StampError, match="stamped prod"):
            attempt(empty_database)
    assert not trigger_tables(db)


def test_an_empty_database_is_stamped_by_its_first_operation(
    db: Connection, empty_database: ConnectionParams
) -> None:
    apply(empty_database, dry_run=True)
    assert read_stamp(db) is None
    apply(empty_database)
    assert read_stamp(db) == "dev"


def test_a_missing_database_is_named(empty_database: ConnectionParams) -> None:
    absent = empty_database.with_database("no_such_database")
    for attempt in (apply, verify):
        with pytest.raises(PreflightError, match="no_such_database"):
            attempt(absent)
