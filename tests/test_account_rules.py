"""The rules of accounts, as the database keeps them: every test writes by plain SQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.commands.migrate import Command as Migrate
from django.test import override_settings

from dbops.exceptions import StatementError
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
from dbops.postgres.process import do_not_poll
from dbops.postgres.stamp import write_stamp
from skinspire.guarantees import trigger_sets
from tests.installation import Installation
from tests.servers import Server
from tests.test_acting import django_connection
from tests.triggering import apply, verify

USER = """INSERT INTO public.accounts_user
    (username, email, password, first_name, last_name, is_superuser, is_staff, is_active,
     date_joined)
    VALUES ('nora', 'nora@example.org', '!', '', '', false, false, true, now()) RETURNING id"""
FAIL = "INSERT INTO public.accounts_accountevent (event, user_id) VALUES ('sign_in_failed', %s)"
SUCCEED = "INSERT INTO public.accounts_accountevent (event, user_id) VALUES ('signed_in', %s)"
BEGIN = """INSERT INTO public.accounts_session (user_id, expires_at)
           VALUES (%s, now() + interval '1 hour') RETURNING id"""
ACTIVE = """SELECT count(*) FROM public.accounts_session
             WHERE ended_at IS NULL AND expires_at > now() AND user_id = %s"""
UNLOCK = "UPDATE public.accounts_user SET locked_until = NULL WHERE id = %s"


def brought() -> triggers.Wishes:
    """What accounts bring, with the numbers of the settings as they are."""
    return triggers.Wishes(sets=trigger_sets())


@pytest.fixture(scope="module")
def migrated(server: Server, django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database as ``migrate`` leaves it, to be copied for each test."""
    params = server.create_database()
    alias = f"migrated{server.major}"
    five = override_settings(ACCOUNT_LOCK_AFTER=5)
    with django_db_blocker.unblock(), django_connection(params, alias), five:
        call_command(Migrate(), database=alias, verbosity=0)
    with session(params) as connection:
        triggers.install(connection, poll=do_not_poll)
        write_stamp(connection, "dev")
    yield params.database
    server.drop_database(params.database)


@pytest.fixture
def fresh() -> None:
    """For tests that change the schema: their database is a copy of their own."""


@pytest.fixture
def params(
    request: pytest.FixtureRequest, server: Server, migrated: str, settings: Any
) -> Iterator[ConnectionParams]:
    settings.ACCOUNT_LOCK_AFTER = 5
    if "fresh" in request.fixturenames:
        name = f"{migrated}_copy"
        with session(server.params) as connection:
            execute(connection, f"CREATE DATABASE {name} TEMPLATE {migrated}")
        yield server.params.with_database(name)
        server.drop_database(name)
        return
    yield server.params.with_database(migrated)
    with session(server.params.with_database(migrated)) as connection:
        execute(connection, "SET skinspire.prune_history = 'on'")
        for table in ("accountevent", "session", "user"):
            execute(connection, f"DELETE FROM public.accounts_{table}")


@pytest.fixture
def db(params: ConnectionParams) -> Iterator[Connection]:
    with session(params) as connection:
        yield connection


SESSIONS_ENDED = """SELECT username, session, door, detail FROM public.accounts_accountevent
                     WHERE event = 'session_ended'"""


@pytest.fixture
def nora(db: Connection) -> int:
    return int(fetch_value(db, USER))


def account(db: Connection, user: int) -> tuple[int, bool]:
    """(failed sign-ins, whether locked)."""
    row = fetch_row(
        db,
        """SELECT failed_sign_ins, coalesce(locked_until > clock_timestamp(), false)
             FROM public.accounts_user WHERE id = %s""",
        [user],
    )
    assert row is not None
    return row[0], row[1]


def let_lock_pass(db: Connection, user: int) -> None:
    execute(
        db,
        "UPDATE public.accounts_user SET locked_until = now() - interval '1 s' WHERE id = %s",
        [user],
    )


def at_once(params: ConnectionParams, statement: str, args: list[Any], times: int) -> list[str]:
    """Run it in sessions of their own, started together; what the server refused."""
    refused: list[str] = []
    together = threading.Barrier(times)

    def work() -> None:
        with session(params) as mine:
            together.wait(timeout=60)
            try:
                execute(mine, statement, args)
            except StatementError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


# Failed sign-ins


def test_failures_count_lock_at_the_limit_and_a_success_sets_them_back(
    db: Connection, nora: int
) -> None:
    for count in range(1, 5):
        execute(db, FAIL, [nora])
        assert account(db, nora) == (count, False)
    execute(db, SUCCEED, [nora])
    assert account(db, nora) == (0, False)
    for _ in range(5):
        execute(db, FAIL, [nora])
    assert account(db, nora) == (5, True)
    history = fetch_all(db, "SELECT event, username FROM public.accounts_accountevent ORDER BY id")
    assert history.count(("sign_in_failed", "nora")) == 9
    assert history.count(("locked", "nora")) == 1


def test_an_update_by_hand_locks_as_well(db: Connection, nora: int) -> None:
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 5")
    assert account(db, nora) == (5, True)
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 0")
    assert account(db, nora) == (0, False)


def test_a_lock_is_neither_extended_by_guesses_nor_opened_by_a_success(
    db: Connection, nora: int
) -> None:
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 5")
    until = "SELECT locked_until FROM public.accounts_user"
    before = fetch_value(db, until)
    execute(db, FAIL, [nora])
    execute(db, SUCCEED, [nora])
    assert fetch_value(db, until) == before
    assert account(db, nora) == (6, True)
    left = "SELECT locked_until - now() BETWEEN '14 minutes' AND '15 minutes' "
    assert fetch_value(db, f"{left} FROM public.accounts_user")


def test_after_a_lock_a_new_count_begins(db: Connection, nora: int) -> None:
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 5")
    let_lock_pass(db, nora)
    execute(db, FAIL, [nora])
    assert account(db, nora) == (1, False)


def test_unlocking_by_hand_begins_a_new_count(db: Connection, nora: int) -> None:
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 5")
    execute(db, UNLOCK, [nora])
    assert account(db, nora) == (0, False)


def test_a_name_alone_finds_its_account_and_an_unknown_one_is_history_alone(
    db: Connection, nora: int
) -> None:
    by_name = FAIL.replace("user_id", "username")
    execute(db, by_name, ["nora"])
    execute(db, by_name, ["nobody"])
    assert account(db, nora) == (1, False)
    rows = fetch_all(db, "SELECT user_id, username FROM public.accounts_accountevent ORDER BY id")
    assert rows == [(nora, "nora"), (None, "nobody")]


def test_failures_at_the_same_time_all_count(
    params: ConnectionParams, db: Connection, nora: int
) -> None:
    with transaction(db), session(params) as other:
        execute(db, FAIL, [nora])
        execute(other, "SET lock_timeout = '100ms'")
        with pytest.raises(StatementError, match="lock timeout"):
            execute(other, FAIL, [nora])
    assert account(db, nora) == (1, False)
    assert at_once(params, FAIL, [nora], 10) == []
    assert account(db, nora) == (11, True)
    locked = "SELECT count(*) FROM public.accounts_accountevent WHERE event = 'locked'"
    assert fetch_value(db, locked) == 1


# Sessions


def test_a_session_above_the_limit_ends_the_oldest(db: Connection, nora: int) -> None:
    first, *_ = [fetch_value(db, BEGIN, [nora]) for _ in range(6)]
    ended = "SELECT id, end_reason FROM public.accounts_session WHERE ended_at IS NOT NULL"
    assert fetch_all(db, ended) == [(first, "limit")]
    assert fetch_all(db, SESSIONS_ENDED) == [("nora", first, "browser", "limit")]
    execute(
        db,
        """INSERT INTO public.accounts_session (user_id, expires_at)
           SELECT %s, now() + interval '1 hour' FROM generate_series(1, 20)""",
        [nora],
    )
    assert fetch_value(db, ACTIVE, [nora]) == 5


def test_sessions_begun_at_the_same_time_leave_exactly_the_limit(
    params: ConnectionParams, db: Connection, nora: int
) -> None:
    assert at_once(params, BEGIN, [nora], 50) == []
    assert fetch_value(db, ACTIVE, [nora]) == 5
    assert fetch_value(db, "SELECT count(*) FROM public.accounts_session") == 50


def test_where_others_sessions_would_not_be_seen_none_begins(db: Connection, nora: int) -> None:
    execute(db, "SET default_transaction_isolation = 'repeatable read'")
    with pytest.raises(StatementError, match="READ COMMITTED"):
        execute(db, BEGIN, [nora])


@pytest.mark.parametrize(
    ("change", "reason"),
    [("is_active = false", "not active"), ("failed_sign_ins = 9", "is locked")],
)
def test_an_account_that_is_locked_or_inactive_gets_no_session(
    db: Connection, nora: int, change: str, reason: str
) -> None:
    execute(db, f"UPDATE public.accounts_user SET {change}")
    with pytest.raises(StatementError, match=reason):
        execute(db, BEGIN, [nora])
    assert fetch_value(db, "SELECT count(*) FROM public.accounts_session") == 0


@pytest.mark.parametrize(
    "touch",
    [
        "last_seen_at = now()", "expires_at = now() + interval '1 day'",
        "ended_at = NULL, end_reason = ''", "key_hash = 'x'",
    ],
)  # fmt: skip
@pytest.mark.parametrize("over", ["expired", "ended"])
def test_a_session_that_is_over_does_not_come_back(
    db: Connection, nora: int, over: str, touch: str
) -> None:
    if over == "expired":
        execute(
            db,
            """INSERT INTO public.accounts_session (user_id, created_at, expires_at)
               VALUES (%s, now() - interval '2 hours', now() - interval '1 hour')""",
            [nora],
        )
    else:
        execute(db, BEGIN, [nora])
        execute(db, "UPDATE public.accounts_session SET ended_at = now()")
    before = fetch_all(db, "SELECT * FROM public.accounts_session")
    assert execute(db, f"UPDATE public.accounts_session SET {touch}") == 0
    assert fetch_all(db, "SELECT * FROM public.accounts_session") == before
    assert fetch_value(db, ACTIVE, [nora]) == 0


def test_an_expired_session_ends_as_of_when_it_expired(db: Connection, nora: int) -> None:
    execute(
        db,
        """INSERT INTO public.accounts_session (user_id, expires_at)
           VALUES (%s, now() - interval '1 hour')""",
        [nora],
    )
    execute(db, "UPDATE public.accounts_session SET ended_at = now(), end_reason = 'sweep'")
    ended = "SELECT ended_at = expires_at, end_reason FROM public.accounts_session"
    assert fetch_row(db, ended) == (True, "expired")


def test_an_active_session_is_touched_and_ended_but_not_handed_on(
    db: Connection, nora: int
) -> None:
    execute(db, BEGIN, [nora])
    assert execute(db, "UPDATE public.accounts_session SET last_seen_at = now()") == 1
    with pytest.raises(StatementError, match="not handed"):
        execute(db, "UPDATE public.accounts_session SET user_id = user_id + 1")
    assert execute(db, "UPDATE public.accounts_session SET ended_at = now()") == 1
    assert fetch_value(db, "SELECT end_reason FROM public.accounts_session") == "ended"


def test_disabling_an_account_ends_its_sessions(db: Connection, nora: int) -> None:
    execute(db, BEGIN, [nora])
    execute(db, "UPDATE public.accounts_user SET is_active = false")
    execute(db, "UPDATE public.accounts_user SET is_active = true")
    assert fetch_value(db, ACTIVE, [nora]) == 0
    assert fetch_value(db, "SELECT end_reason FROM public.accounts_session") == "disabled"
    assert [row[3] for row in fetch_all(db, SESSIONS_ENDED)] == ["disabled"]


# History, names and times


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE public.accounts_accountevent SET outcome = 'done'",
        "DELETE FROM public.accounts_accountevent",
        "TRUNCATE public.accounts_accountevent",
    ],
)
def test_history_is_only_added_to(db: Connection, nora: int, statement: str) -> None:
    execute(db, FAIL, [nora])
    with pytest.raises(StatementError, match="only added to"):
        execute(db, statement)
    execute(db, "SET skinspire.prune_history = 'on'")
    if statement.startswith("UPDATE"):
        with pytest.raises(StatementError, match="only added to"):
            execute(db, statement)
    else:
        execute(db, statement)
        assert fetch_value(db, "SELECT count(*) FROM public.accounts_accountevent") == 0


def test_history_outlives_the_account_and_says_who_acted(db: Connection, nora: int) -> None:
    execute(db, "SELECT set_config('skinspire.actor', 'omar', false)")
    execute(db, FAIL, [nora])
    execute(db, "DELETE FROM public.accounts_user")
    row = fetch_row(db, "SELECT user_id, username, created_by FROM public.accounts_accountevent")
    assert row == (nora, "nora", "omar")


def test_an_address_belongs_to_one_account_in_any_case(db: Connection, nora: int) -> None:
    again = USER.replace("'nora'", "'nora2'").replace("nora@example", "NORA@Example")
    with pytest.raises(StatementError, match="accounts_user_email_unique"):
        execute(db, again)


def test_an_update_moves_the_accounts_time(db: Connection, nora: int) -> None:
    execute(db, "UPDATE public.accounts_user SET first_name = 'Nora'")
    moved = "SELECT updated_at > created_at FROM public.accounts_user"
    assert fetch_value(db, moved)


def test_hostile_names_on_the_search_path_are_not_found(
    fresh: None, db: Connection, nora: int
) -> None:
    execute(db, "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
                "$$SELECT 'infinity'::timestamptz$$")  # fmt: skip
    execute(db, "SET search_path = public, pg_catalog")
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 5")
    assert fetch_value(db, "SELECT isfinite(locked_until) FROM public.accounts_user")


# In place, or not


def test_the_rules_come_with_migrate_and_are_verified(params: ConnectionParams) -> None:
    found = verify(params, brought())
    assert not found.drift
    ours = {label for label in found.installed if ": accounts_" in label}
    assert len(ours) == 6
    assert found.foreign == ()


def test_what_was_disabled_dropped_or_changed_is_told_and_put_right(
    fresh: None, params: ConnectionParams, db: Connection, nora: int
) -> None:
    execute(db, "ALTER TABLE public.accounts_session DISABLE TRIGGER accounts_limit")
    execute(db, "DROP TRIGGER accounts_keep ON public.accounts_accountevent")
    execute(
        db,
        """CREATE OR REPLACE FUNCTION skinspire.lock_account() RETURNS trigger LANGUAGE plpgsql
           AS 'BEGIN RETURN NEW; END'""",
    )
    found = verify(params, brought())
    assert found.disabled == ("public.accounts_session: accounts_limit",)
    assert found.missing == ("public.accounts_accountevent: accounts_keep",)
    assert found.outdated == ("public.accounts_user: accounts_lock",)
    apply(params, wishes=brought())
    assert not verify(params, brought()).drift
    execute(db, "UPDATE public.accounts_user SET failed_sign_ins = 5")
    assert account(db, nora) == (5, True)


def test_a_changed_number_is_drift_and_arrives_with_the_next_installation(
    fresh: None, params: ConnectionParams, db: Connection, nora: int, settings: Any
) -> None:
    settings.ACCOUNT_LOCK_AFTER = 2
    assert verify(params, brought()).outdated == ("public.accounts_user: accounts_lock",)
    rehearsed = apply(params, wishes=brought(), dry_run=True)
    assert any("'2'" in it for it in rehearsed.statements)
    apply(params, wishes=brought())
    for _ in range(2):
        execute(db, FAIL, [nora])
    assert account(db, nora) == (2, True)


def test_none_is_put_right_where_one_cannot_be(
    fresh: None, params: ConnectionParams, db: Connection, superuser: ConnectionParams
) -> None:
    execute(db, "DROP TRIGGER accounts_lock ON public.accounts_user")
    execute(db, "DROP TRIGGER skinspire_timestamps ON public.accounts_user")
    execute(db, "DROP TRIGGER accounts_keep ON public.accounts_accountevent")
    with session(superuser.with_database(params.database)) as powerful:
        execute(powerful, "ALTER TABLE public.accounts_accountevent OWNER TO CURRENT_USER")
    with pytest.raises(StatementError, match=r"table public\.accounts_accountevent: "):
        apply(params, wishes=brought())
    assert len(verify(params, brought()).missing) == 3


def test_a_database_without_accounts_has_nothing_to_install(
    empty_database: ConnectionParams,
) -> None:
    with session(empty_database) as connection:
        write_stamp(connection, "dev")
    assert apply(empty_database, wishes=brought()).triggers == 0
    assert not verify(empty_database, brought()).drift


def test_copies_and_restores_bring_the_rules_and_leave_the_sessions_behind(
    installation18: Installation,
) -> None:
    made = installation18
    made.result("init_db", "--env", "test")
    nora = made.sql("test", USER)
    for statement in (BEGIN, FAIL, FAIL):
        made.sql("test", statement.replace("%s", str(nora)))
    copied = made.result("copy_db", "test", "dev", "--strategy", "stream", "--noinput")
    assert copied["defused"] == {"public.accounts_session": 1}
    _require_kept(made, nora)
    name = made.result("dbbackup", "-d", "test")["name"]
    restored = made.result("dbrestore", "-d", "dev", "-i", name, "--noinput")
    assert restored["defused"] == {"public.accounts_session": 1}
    _require_kept(made, nora)


def _require_kept(made: Installation, nora: int) -> None:
    """dev has the rules, the history as it was, and counts on where test was."""
    assert not verify(made.databases["dev"], brought()).drift
    with session(made.databases["dev"]) as connection:
        assert account(connection, nora) == (2, False)
        execute(connection, FAIL, [nora])
        assert account(connection, nora) == (3, False)
