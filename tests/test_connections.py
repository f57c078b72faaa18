"""Where connections lead: past dead servers to the primary, past a pooler, to a replica."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace

import django.db
import psycopg2
import pytest
from django.db import connections

from dbops.exceptions import PooledConnectionError
from dbops.operations.inspection import server_label
from dbops.postgres.connection import connect
from dbops.postgres.params import ConnectionParams
from skinspire.databases import (
    EnvironmentUrls,
    MalformedUrl,
    console_databases,
    database_from_url,
    environment_databases,
)
from skinspire.outage import is_outage
from skinspire.router import ControlRouter
from tests.faults import own_server
from tests.installation import Installation
from tests.pgbouncer import pgbouncer
from tests.servers import Server
from tests.standby import Standby, standby

# Poolers


def test_an_operation_refuses_a_pooler_and_leaves_nothing_in_its_sessions(server18: Server) -> None:
    with pgbouncer(server18) as port:
        params = replace(server18.params, port=port)
        with pytest.raises(PooledConnectionError) as caught:
            connect(params)
        assert str(caught.value).startswith(f"127.0.0.1:{port} is a connection pooler")
        plain = psycopg2.connect(**params.libpq_keywords())
        with plain, plain.cursor() as cursor:
            cursor.execute("SHOW search_path")
            assert cursor.fetchone() == ('"$user", public',)
        plain.close()
    with pgbouncer(server18, "elsewhere") as port, pytest.raises(PooledConnectionError):
        connect(replace(server18.params, port=port))


_CONSOLE = """
import json
from django.db import connection, connections, transaction
from accounts.models import User
from dbops.database_service import get_db_connection, get_db_session
User.objects.create(username="ann"), User.objects.create(username="bob")
seen = [user.username for user in User.objects.order_by("pk").iterator(chunk_size=1)]
with get_db_session() as session, get_db_connection() as direct:
    pooled = session.connection.connection.info
    port, direct_port = pooled.port, direct.info.port
print(json.dumps({"seen": seen, "ports": [port, direct_port]}))
"""


def test_the_console_goes_by_the_pooler_and_operations_past_it(
    installation18: Installation,
) -> None:
    made = installation18
    dev = made.databases["dev"]
    with pgbouncer(made.server) as port:
        pooled = replace(dev, port=port)
        url = made.server.url(dev.database).replace(f":{dev.port}/", f":{port}/")
        made.variables["DEV_DATABASE_URL"] = url
        error = made.refused("dbbackup", "-d", "dev")
        assert error["code"] == "pooled_connection"
        assert "DEV_POOL_URL" in error["hint"].replace("<ENV>", "DEV")
        assert server_label(pooled) in url
        made.variables |= {"DEV_DATABASE_URL": made.server.url(dev.database), "DEV_POOL_URL": url}
        made.run("migrate")
        told = json.loads(made.run("shell", "--no-imports", "-c", _CONSOLE).out)
        assert told == {"seen": ["ann", "bob"], "ports": [port, dev.port]}
        assert made.result("dbbackup", "-d", "dev")["tables"] > 0


# Several hosts


def test_a_url_with_several_hosts_is_taken_apart_as_libpq_does() -> None:
    url = "postgresql://u:p@h1:5432,h2:5433,[::1]/d"
    found = database_from_url("DEV_DATABASE_URL", url)
    assert (found["HOST"], found["PORT"]) == ("h1,h2,::1", "5432,5433,")
    assert found["OPTIONS"] == {"target_session_attrs": "primary"}
    for given in ("read-write", "any"):
        options = database_from_url("X", f"{url}?target_session_attrs={given}")["OPTIONS"]
        assert options == {"target_session_attrs": given}
    params = ConnectionParams("d", found["HOST"], found["PORT"], "u", "p", found["OPTIONS"])
    assert params.label == "u@h1:5432,h2:5433,[::1]:5432/d"
    environment = params.libpq_environment()
    assert (environment["PGHOST"], environment["PGPORT"]) == ("h1,h2,::1", "5432,5433,")
    assert environment["PGTARGETSESSIONATTRS"] == "primary"
    one_port = database_from_url("X", "postgresql:///d?host=h1,h2&port=6000")
    assert ConnectionParams("d", one_port["HOST"], one_port["PORT"]).address == "h1:6000,h2:6000"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40%2F%3A@h/d", {"PASSWORD": "p@/:"}),
        ("postgresql://u:p@ss@h/d", {"PASSWORD": "p@ss", "HOST": "h"}),
        ("postgres://u:p@%2Frun%2Fpg/d", {"HOST": "/run/pg"}),
        ("pgsql://u@h/%D7%A9%27%3D%24%24%0A", {"NAME": "ש'=$$\n"}),
        ("postgresql://u@h/-d%3B?sslmode=require", {"OPTIONS": {"sslmode": "require"}}),
        ("postgresql://u@h/d?password=1_000", {"PASSWORD": "1_000"}),
    ],
)
def test_what_is_percent_encoded_arrives(url: str, expected: dict[str, object]) -> None:
    found = database_from_url("DEV_DATABASE_URL", url)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    "url", ["postgresql://u:canary@h:1,h2:x/d", "postgresql://u:canary@h/d?canary=1",
            "postgresql://u:can%ary@h/d", "postgresql://u:canary@h:70000/d",
            "postgresql://u:canary@h/%00", "postgresql://u:canary@[::1/d",
            "postgresql://u:canary@h/d?hostaddr=10.0.0.1,10.0.0.2"],
)  # fmt: skip
def test_what_libpq_would_not_understand_is_refused_without_a_value(url: str) -> None:
    with pytest.raises(MalformedUrl) as caught:
        database_from_url("DEV_DATABASE_URL", url)
    assert "DEV_DATABASE_URL" in str(caught.value)
    assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_only_the_active_environment_is_pooled_and_connections_persist(tmp_path: object) -> None:
    urls = {name: EnvironmentUrls(f"postgresql://u@{name}/d", f"postgresql://u@{name}pool/d",
                                  f"postgresql://u@{name}replica,x/d")
            for name in ("dev", "test", "prod")}  # fmt: skip
    found = environment_databases(urls, tmp_path)
    found |= console_databases(found["test"], "test", urls["test"].pool)
    assert found["default"]["HOST"] == "testpool"
    assert [found[name]["HOST"] for name in urls] == ["dev", "test", "prod"]
    assert found["default"]["CONN_MAX_AGE"] > 0
    assert found["default"]["CONN_HEALTH_CHECKS"] is True
    assert found["default"]["DISABLE_SERVER_SIDE_CURSORS"] is True
    replica = found["dev_replica"]
    assert replica["OPTIONS"]["target_session_attrs"] == "prefer-standby"
    assert replica["TEST"] == {"MIRROR": "dev"}
    assert ControlRouter().allow_migrate("dev_replica", "accounts") is False
    assert ControlRouter().allow_migrate("dev_replica", "dbops") is False


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    with own_server() as server:
        yield server


@pytest.fixture(scope="module")
def copy(primary: Server) -> Iterator[Standby]:
    with standby(primary) as made:
        yield made


def _dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _url(standing: Standby, database: str, *ports: int, attrs: str = "") -> str:
    params = standing.params
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://{params.user}:{params.password}@{hosts}/{database}{attrs}"


def test_operations_find_the_primary_among_several_hosts(
    primary: Server, copy: Standby, tmp_path: object
) -> None:
    """A dead server first, then a standby, then the primary; the tools find it as well."""
    with Installation.create(primary, tmp_path) as made:
        ports = (_dead_port(), copy.port, int(primary.params.port))
        for name, attrs in (("dev", ""), ("test", "?target_session_attrs=read-write")):
            made.variables[f"{name.upper()}_DATABASE_URL"] = _url(
                copy, made.databases[name].database, *ports, attrs=attrs
            )
        copy.catch_up()
        made.result("init_db", "--env", "dev")
        backup = made.result("dbbackup", "-d", "dev")
        assert backup["tables"] > 0
        made.result("dbrestore", "-d", "test", "-i", backup["name"], "--noinput")
        assert made.sql("test", "SELECT environment FROM skinspire.stamp") == "test"
        # The same database by way of its standby is still the same.
        copy.catch_up()
        made.variables["TEST_DATABASE_URL"] = _url(copy, made.databases["dev"].database, copy.port)
        error = made.refused("copy_db", "test", "dev", "--noinput", "--strategy", "dump")
        assert error["code"] in ("same_database", "stamp_mismatch")


# Replicas


_READS = """
import json, logging
from django.db import connections
from accounts.models import User
from dbops.database_service import get_db_session
def where(**options):
    with get_db_session(**options) as session:
        return session.connection.connection.info.port
told = {"write": where(), "read": where(read_only=True)}
with get_db_session() as outer:
    User.objects.create(username="ann")
    with get_db_session(read_only=True) as inner:
        told["inside"] = [inner.connection.connection.info.port, inner.objects(User).count()]
try:
    with get_db_session(read_only=True) as session:
        session.cursor().execute("CREATE TABLE t ()")
except Exception as error:
    told["error"] = type(error).__name__
told["open"] = [alias for alias in connections if connections[alias].connection is not None]
print(json.dumps(told))
"""


def test_reading_goes_by_the_replica_and_by_the_primary_where_it_is_down(
    primary: Server, copy: Standby, tmp_path: object
) -> None:
    with Installation.create(primary, tmp_path) as made:
        made.result("init_db", "--env", "dev")
        made.variables["DEV_REPLICA_URL"] = _url(copy, made.databases["dev"].database, copy.port)
        copy.catch_up()
        port = primary.params.port
        answer = made.run("shell", "--no-imports", "-c", _READS)
        assert json.loads(answer.out) == {
            "write": port, "read": copy.port, "inside": [port, 1], "error": "InternalError",
            "open": [],
        }  # fmt: skip
        made.variables["DEV_REPLICA_URL"] = _url(copy, made.databases["dev"].database, _dead_port())
        made.sql("dev", "DELETE FROM public.accounts_user")
        answer = made.run("shell", "--no-imports", "-c", _READS)
        told = json.loads(answer.out)
        assert (told["read"], told["inside"], told["error"]) == (port, [port, 1], "InternalError")
        assert answer.err.count("The replica of dev does not answer") == 1


def test_a_server_that_takes_no_sessions_yet_is_an_outage(copy: Standby) -> None:
    copy.stop()
    copy.start(hot_standby="off")
    try:
        fresh = connections["default"].copy("starting")
        fresh.settings_dict |= {"PORT": str(copy.port), "NAME": "postgres"}
        fresh.settings_dict |= {"USER": copy.params.user, "PASSWORD": copy.params.password}
        said = "Connection refused"
        while "Connection refused" in said:
            with (
                pytest.raises(django.db.OperationalError) as caught,
                fresh.wrap_database_errors,
            ):
                fresh.connect()
            said = str(caught.value)
        assert "the database system is" in said
        assert is_outage(caught.value)
    finally:
        copy.stop()
        copy.start()
