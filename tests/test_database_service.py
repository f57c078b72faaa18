"""Sessions: what is committed, what is rolled back, what cannot be written, what outlives them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.core.management import call_command
from django.db import InternalError, OperationalError, ProgrammingError, connection, connections
from django.test import RequestFactory
from psycopg2.sql import SQL, Composable

from accounts.models import User
from dbops.database_service import (
    Session,
    get_db_connection,
    get_db_session,
    get_detached_copy,
    get_entity_dict,
    set_debug_mode,
    use_nested_transactions,
)
from dbops.exceptions import StampError, UnknownEnvironmentError, UsageError

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "dev"])


@pytest.fixture
def stamped() -> Iterator[Callable[[str], None]]:
    """Stamps the database; forgotten afterwards."""

    def stamp(environment: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE skinspire.stamp SET environment = %s", [environment])

    yield stamp
    stamp("dev")


def fail(session: Session, name: str) -> NoReturn:
    """Write, and fail."""
    add(session, name)
    raise ZeroDivisionError


def names() -> list[str]:
    return sorted(User.objects.values_list("username", flat=True))


def add(session: Session, name: str) -> None:
    session.add(User(username=name, password="canary"))


def test_committed_at_the_end_and_rolled_back_whole() -> None:
    with get_db_session() as session:
        add(session, "ann")
        assert session.objects(User).count() == 1
    with pytest.raises(ZeroDivisionError), get_db_session("development") as session:
        fail(session, "bob")
    assert names() == ["ann"]
    for use in (lambda: session.using, session.cursor, lambda: session.objects(User)):
        with pytest.raises(UsageError, match="has ended"):
            use()


def test_a_session_inside_another_is_a_savepoint_or_a_part_of_it() -> None:
    with get_db_session() as outer:
        add(outer, "ann")
        with pytest.raises(ZeroDivisionError), get_db_session() as inner:
            fail(inner, "bob")
        add(outer, "cleo")
    assert names() == ["ann", "cleo"]
    use_nested_transactions(False)
    try:
        with get_db_session() as outer:
            add(outer, "dora")
            with pytest.raises(ZeroDivisionError), get_db_session() as inner:
                fail(inner, "emil")
    finally:
        use_nested_transactions(True)
    assert names() == ["ann", "cleo"]


ESCAPES: list[str | bytes | Composable] = [
    SQL("COMMIT"),
    b"COMMIT",
    "/* /* */ ' */ COMMIT --'",
    r"SELECT '\'; COMMIT; --'",
    "SET TRANSACTION READ WRITE",
    "SET transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SET LOCAL transaction_read_only = off; DELETE FROM accounts_user",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "COMMIT; DELETE FROM accounts_user",
    "/* x */ rollback",
    "SELECT 1; END; DELETE FROM accounts_user",
    "SAVEPOINT a; SET TRANSACTION READ WRITE; DELETE FROM accounts_user",
]


@pytest.mark.parametrize("inside", [False, True], ids=["by itself", "inside one that writes"])
@pytest.mark.parametrize("escape", ESCAPES)
def test_read_only_cannot_be_escaped(escape: Any, inside: bool) -> None:
    User.objects.create(username="ann")

    def read() -> None:
        with get_db_session(read_only=True) as session:
            assert session.objects(User).count() == 1
            with session.cursor() as cursor:
                cursor.execute(escape)
                cursor.execute("DELETE FROM accounts_user")

    if inside:
        with get_db_session() as outer:
            with pytest.raises((InternalError, UsageError, ProgrammingError)):
                read()
            add(outer, "bob")  # goes on as it was
        assert names() == ["ann", "bob"]
    else:
        with pytest.raises((InternalError, UsageError, ProgrammingError)):
            read()
        assert names() == ["ann"]


def test_writing_inside_reading_is_refused_and_reading_inside_writing_sees_it() -> None:
    with get_db_session(read_only=True), pytest.raises(UsageError, match="inside a read-only"):
        get_db_session("dev").__enter__()
    use_nested_transactions(False)  # the read-only one is a savepoint all the same
    try:
        with get_db_session() as outer:
            add(outer, "ann")
            with get_db_session(read_only=True) as inner:
                assert inner.objects(User).count() == 1
                with get_db_session(read_only=True) as innermost:
                    assert innermost.objects(User).count() == 1
                with (
                    pytest.raises(InternalError, match="read-only"),
                    get_db_session(read_only=True) as innermost,
                ):
                    add(innermost, "bob")
            add(outer, "cleo")
    finally:
        use_nested_transactions(True)


def test_what_only_looks_like_the_end_of_a_transaction_runs() -> None:
    with get_db_session() as session, session.cursor() as cursor:
        for harmless in (
            "SELECT 'x; COMMIT'", 'SELECT 1 AS "; end"', "SELECT 1 -- ; COMMIT",
            "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; RELEASE a",
            "DO $$ BEGIN PERFORM 1; END $$", "SELECT CASE WHEN true THEN 1 END",
        ):  # fmt: skip
            cursor.execute(harmless)


def test_another_environments_database_is_refused(stamped: Callable[[str], None]) -> None:
    stamped("prod")
    for read_only in (False, True):
        with pytest.raises(StampError, match="stamped prod"), get_db_session(read_only=read_only):
            pass
    with pytest.raises(StampError, match="stamped prod"), get_db_connection():
        pass
    with pytest.raises(UnknownEnvironmentError), get_db_session("prodd"):
        pass


def test_a_thread_has_sessions_of_its_own() -> None:
    heard: list[Any] = []

    def work(session: Session) -> None:
        try:
            session.cursor()
        except UsageError as error:
            heard.append(str(error))
        with get_db_session() as own:
            heard.append(own.objects(User).count())
        heard.append(connections["default"].connection)

    with get_db_session() as session:
        add(session, "ann")
        thread = threading.Thread(target=work, args=[session])
        thread.start()
        thread.join()
    assert "belongs to the thread" in heard[0]
    assert heard[1] == 0  # not committed yet
    assert heard[2] is None  # and nothing is left behind
    assert names() == ["ann"]


def test_a_generator_that_ends_out_of_turn_loses_nothing_silently() -> None:
    def rows() -> Iterator[int]:
        with get_db_session() as session:
            add(session, "generated")
            yield 1

    generator = rows()
    next(generator)
    with (  # noqa: PT012
        pytest.raises(UsageError, match="around this one"),
        get_db_session() as session,
    ):
        add(session, "ann")
        with pytest.raises(UsageError, match="before one inside it"):
            generator.close()
    assert names() == []
    with get_db_session() as session:
        add(session, "bob")
    assert names() == ["bob"]


def test_left_half_way_a_generator_rolls_back() -> None:
    def rows() -> Iterator[int]:
        with get_db_session() as session:
            add(session, "generated")
            yield 1

    for _ in rows():
        break
    assert names() == []


def test_a_session_that_was_ended_underneath_writes_nothing_more() -> None:
    def read() -> None:
        with get_db_session(read_only=True) as session:
            session.connection.connection.commit()
            add(session, "ann")

    with pytest.raises(UsageError, match="ended before"):
        read()
    assert names() == []


@pytest.mark.parametrize("finish", [lambda it: it.close(), lambda it: next(it, None)])
def test_a_generator_that_another_thread_ends_rolls_back_its_own_alone(
    finish: Callable[[Any], object],
) -> None:
    """As the garbage collector may: both threads' transactions stay what they are."""

    def rows() -> Iterator[int]:
        with get_db_session() as session:
            add(session, "generated")
            yield 1

    def elsewhere() -> None:
        with get_db_session() as session:
            add(session, "ann")
            with suppress(UsageError):
                finish(generator)
            add(session, "bob")
        connections.close_all()

    generator = rows()
    next(generator)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert not connection.in_atomic_block
    assert names() == ["ann", "bob"]
    with get_db_session() as session:
        add(session, "cleo")
    connection.close()
    assert names() == ["ann", "bob", "cleo"]


def test_async_code_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")

    async def view() -> None:
        with get_db_session():
            pass

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(view())


def test_a_lost_connection_is_another_one_the_next_time() -> None:
    with pytest.raises(OperationalError), get_db_session() as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    with get_db_session() as session:
        assert session.objects(User).count() == 0


def test_a_direct_connection_is_the_servers_own() -> None:
    with get_db_connection() as direct, direct.cursor() as cursor:
        cursor.execute("INSERT INTO accounts_user SELECT * FROM accounts_user")
        cursor.execute("SHOW search_path")
        assert cursor.fetchone() == ('"$user", public',)
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() == (direct.info.backend_pid,)
    assert direct.closed
    with pytest.raises(ZeroDivisionError), get_db_connection("dev") as direct:  # noqa: PT012
        with direct.cursor() as cursor:
            cursor.execute("CREATE TABLE left_over ()")
        raise ZeroDivisionError
    with get_db_connection(autocommit=True) as direct, direct.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_over')")
        assert cursor.fetchone() == (None,)
        cursor.execute("VACUUM accounts_user")


def test_debug_mode_logs_statements_without_values(caplog: pytest.LogCaptureFixture) -> None:
    set_debug_mode(True)
    try:
        with caplog.at_level(logging.DEBUG, "dbops.database_service"):
            with get_db_session() as session, session.cursor() as cursor:
                add(session, "canary-parameter")
                cursor.execute(
                    "SELECT 'canary-literal', $$canary$$, \"username\" FROM accounts_user"
                )
            with pytest.raises(ProgrammingError), get_db_session() as session:
                session.cursor().execute("SELECT %s FROM nowhere", ["canary"])
    finally:
        set_debug_mode(False)
    assert "canary" not in caplog.text
    assert 'INSERT INTO "accounts_user"' in caplog.text
    assert "'…'" in caplog.text
    assert "failed after" in caplog.text
    caplog.clear()
    with get_db_session() as session:
        session.objects(User).count()
    assert caplog.text == ""


def test_a_copy_outlives_its_session_and_cannot_be_changed() -> None:
    with get_db_session() as session:
        add(session, "ann")
        loaded = session.objects(User).prefetch_related("groups").defer("email").get()
        copied = get_detached_copy(loaded)
        loaded.username = "changed"
    assert (copied.username, copied.pk, copied.groups) == ("ann", loaded.pk, ())
    for change in (lambda: setattr(copied, "username", "bob"), lambda: delattr(copied, "username")):
        with pytest.raises(AttributeError, match="cannot be changed"):
            change()
    for missing in ("email", "user_permissions"):
        with pytest.raises(AttributeError, match="was not loaded"):
            getattr(copied, missing)
    assert "ann" not in repr(copied)
    again = pickle.loads(pickle.dumps(copied))
    assert again == copied
    assert hash(again) == hash(copied)
    assert again.username == "ann"


def test_relations_that_were_loaded_come_along_also_in_circles() -> None:
    from django.contrib.auth.models import Permission
    from django.contrib.contenttypes.models import ContentType

    with get_db_session() as session:
        kind, _ = session.objects(ContentType).get_or_create(app_label="accounts", model="user")
        Permission.objects.using(session.using).get_or_create(content_type=kind, codename="x")
        kinds = session.objects(ContentType).filter(pk=kind.pk).prefetch_related("permission_set")
        copied = get_detached_copy(kinds.get())
        alone = get_detached_copy(session.objects(Permission).filter(content_type=kind)[0])
    assert copied.permission_set[0].content_type is copied
    assert alone.content_type_id == kind.pk
    with pytest.raises(AttributeError, match="was not loaded"):
        _ = alone.content_type


def test_a_dictionary_is_ready_for_json_and_holds_no_secret() -> None:
    with get_db_session() as session:
        add(session, "ann")
        user = session.objects(User).get()
    user.date_joined = datetime(2025, 1, 2, 3, 4, tzinfo=UTC)
    for each in (user, get_detached_copy(user)):
        found = get_entity_dict(each)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert found["date_joined"] == "2025-01-02T03:04:00+00:00"
        assert "password" not in found
        assert "canary" not in str(found)


def test_the_documentation_runs(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs/database-service.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    monkeypatch.delenv("DJANGO_ALLOW_ASYNC_UNSAFE")
    # "test" is another database, which no test has: the command is shown on this one.
    with caplog.at_level(logging.DEBUG, "dbops.database_service"):
        for block in blocks:
            exec(block.replace('"test"', '"dev"'), names)  # noqa: S102
    assert "Ann Secret" not in caplog.text
    assert '"username" = %s' in caplog.text
    assert "read-only transaction" in names["refused"]
    answer = json.loads(names["register"](RequestFactory().get("/?name=nora")).content)
    assert (answer["hello"], answer["user"]["username"]) == ("nora", "nora")
    assert sorted(User.objects.values_list("username", "first_name")) == [
        ("background", "B"), ("kept", ""), ("nora", ""),
    ]  # fmt: skip
    said = io.StringIO()
    call_command(names["Command"](stdout=said))
    assert said.getvalue() == "on\n"
    assert names["counted"] == 2
