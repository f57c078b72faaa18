"""Servers, databases and installations for every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.db.backends.signals import connection_created
from django.test import Client

from dbops.postgres.params import ConnectionParams
from tests import servers
from tests.installation import Installation
from tests.s3_server import S3Server
from tests.servers import Server

SignIn = Callable[..., Client]

# Settings are read when Django loads, after this file: by then a real server has to be known.
_IS_FIRST = servers.ROOT_VARIABLE not in os.environ
_root = servers.test_root()
_default = servers.server(18)
assert _default is not None
os.environ.update(
    {
        "DJANGO_SETTINGS_MODULE": "skinspire.settings",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "true",  # playwright's own loop runs in the test's thread
        "SKINSPIRE_ENV": "dev",
        "SKINSPIRE_HOME": str(_root / f"django-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"),
        **{f"{name.upper()}_DATABASE_URL": _default.url(name) for name in ("dev", "test", "prod")},
    }
)
Path(os.environ["SKINSPIRE_HOME"]).mkdir(exist_ok=True)
try:
    django.setup()
except BaseException:  # the server that was started would outlive us
    if _IS_FIRST:
        servers.stop_all()
    raise
# A worker of pytest-xdist inherits our environment and would load the settings before its own
# copy of this file has named its home.
del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure() -> None:
    if _IS_FIRST:
        servers.stop_all()


def _let_history_be_emptied(connection: Any, **_: Any) -> None:
    """Tests that commit empty every table afterwards, and the account history is only added to."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET skinspire.prune_history = 'on'")


connection_created.connect(_let_history_be_emptied)


def skip_or_fail(reason: str) -> None:
    """A fresh machine may lack something; CI installs it, and there nothing skips."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session", params=[18, 15], ids=["pg18", "pg15"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    found = servers.server(request.param)
    if found is None:
        skip_or_fail(f"PostgreSQL {request.param} is not installed")
    assert found is not None
    return found


@pytest.fixture(scope="session")
def server18() -> Server:
    """The wheel's server, for what does not depend on the version."""
    assert _default is not None
    return _default


@pytest.fixture
def superuser(server: Server) -> ConnectionParams:
    return server.superuser


@pytest.fixture
def empty_database(server: Server) -> Iterator[ConnectionParams]:
    """A fresh empty database owned by an ordinary role, dropped afterwards."""
    params = server.create_database()
    yield params
    server.drop_database(params.database)


@pytest.fixture
def installation(server: Server, tmp_path: Path) -> Iterator[Installation]:
    """manage.py with a home and three databases of its own."""
    with Installation.create(server, tmp_path) as made:
        yield made


@pytest.fixture
def installation18(server18: Server, tmp_path: Path) -> Iterator[Installation]:
    with Installation.create(server18, tmp_path) as made:
        yield made


@pytest.fixture
def installation15(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    found = servers.server(15)
    if found is None:
        skip_or_fail("PostgreSQL 15 is not installed")
    assert found is not None
    with Installation.create(found, tmp_path_factory.mktemp("installation15")) as made:
        yield made


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server that speaks S3; tests make buckets of their own."""
    with S3Server.running() as running:
        yield running


@pytest.fixture
def sign_in(client: Client) -> SignIn:
    """Sign nora in with these permissions of dbops."""
    from django.contrib.auth.models import Permission

    from accounts.models import User

    def sign_in(*permissions: str, staff: bool = True) -> Client:
        user = User.objects.create_user("nora", is_staff=staff)
        wanted = Permission.objects.filter(
            content_type__app_label="dbops", codename__in=permissions
        )
        assert len(wanted) == len(permissions)
        user.user_permissions.set(wanted)
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real databases that lie beside the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    found = Path(os.environ.get("SKINSPIRE_TEST_DATA", beside))
    if not found.is_dir():
        skip_or_fail("the real databases are not beside the repository")
    return found


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """control in a file: heartbeat threads have connections of their own."""
    from django.conf import settings

    settings.DATABASES["control"].setdefault("TEST", {})["NAME"] = str(
        Path(settings.SKINSPIRE_HOME) / "test-control.sqlite3"
    )
