"""An installation of its own for the features: a home, and databases nobody else knows.

Nothing here touches an environment's own database. Everything bears one id, an advisory lock in
the maintenance database says that its process lives, and what a killed one left is cleared by the
next.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.core.files.storage import FileSystemStorage
from psycopg2 import sql

from dbops import conf
from dbops.backups.store import BackupStore
from dbops.exceptions import ConfigurationError, PrivilegeError
from dbops.operations.context import OperationContext
from dbops.postgres.connection import (
    Connection,
    execute,
    fetch_all,
    fetch_value,
    session,
    transaction,
)
from dbops.postgres.database_properties import create_database
from dbops.postgres.databases import MAINTENANCE, drop_database, server_facts
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import Child
from dbops.postgres.stamp import write_stamp
from skinspire.environment import ENVIRONMENTS

_PREFIX = "skinspire_features_"
_LOCK = 0x534B4654  # "SKFT"
_OURS = re.compile(rf"\A{_PREFIX}(?P<id>[0-9a-f]{{8}})_")
_HOME_PREFIX = "skinspire-features-"
_SAMPLE = Path(__file__).with_name("sample.sql")
_CODES = tuple(range(-64, 256))


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """``result`` of its JSON; {} where there is none."""
        try:
            return dict(json.loads(self.out)["result"])
        except (ValueError, KeyError, TypeError):
            return {}

    @property
    def error(self) -> dict[str, Any]:
        """``error`` of its JSON; {} where there is none."""
        try:
            return dict(json.loads(self.out)["error"])
        except (ValueError, KeyError, TypeError):
            return {}

    @property
    def told(self) -> str:
        """Exit code and the line of standard error that says why, for a message."""
        lines = [line for line in self.err.splitlines() if line.startswith("Error")]
        return f"exit code {self.code}: {(lines or self.err.splitlines() or ['no message'])[-1]}"


@dataclass(frozen=True)
class Scratch:
    """Three databases and a home, for the length of one rehearsal."""

    id: str
    home: Path
    server: ConnectionParams
    """The maintenance database of the server they are on."""

    def database(self, environment: str) -> ConnectionParams:
        """Where an environment's scratch database is."""
        return self.server.with_database(f"{_PREFIX}{self.id}_{environment}")

    @property
    def store(self) -> BackupStore:
        """The backups of this rehearsal."""
        directory = self.home / "backups"
        directory.mkdir(exist_ok=True)
        key = conf.signing_key((self.home / "secret_key").read_text())
        return BackupStore(FileSystemStorage(str(directory)), (key,), directory)

    @property
    def pg_bin(self) -> Path | None:
        """The directory of tools the installation insists on."""
        return conf.tools_directory()

    def context(self) -> OperationContext:
        """For an operation that is called directly."""
        return OperationContext(secrets.token_hex(6), actor="features")

    def fill(self, environment: str) -> ConnectionParams:
        """Give an environment a fresh copy of the sample, stamped; what was there is gone."""
        return self._replace(environment, like="sample")

    def empty(self, environment: str) -> ConnectionParams:
        """Give an environment a fresh empty database, not stamped."""
        return self._replace(environment, like="")

    def _replace(self, environment: str, like: str) -> ConnectionParams:
        params = self.database(environment)
        with session(self.server) as control:
            drop_database(control, params.database)
            if like:
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(params.database), sql.Identifier(self.database(like).database)
                )
                execute(control, statement)
            else:
                create_database(control, params.database, None)
        if like:
            with session(params) as connection:
                write_stamp(connection, environment)
        return params

    def sql(self, environment: str, statement: str) -> Any:
        """Run SQL in a scratch database; the first value, if there is one."""
        with session(self.database(environment)) as connection:
            if statement.lstrip().upper().startswith("SELECT"):
                return fetch_value(connection, statement)
            return execute(connection, statement)

    def rows(self, environment: str) -> dict[str, str]:
        """A hash over the rows of every table: what "unchanged" and "equal" mean here."""
        with session(self.database(environment)) as connection:
            tables = fetch_all(connection, _TABLES)
            return {
                table: str(fetch_value(connection, _HASH.format(table=table)))
                for (table,) in tables
            }

    def run(self, *arguments: str) -> Answer:
        """A command of this installation with ``--json``, to its end."""
        with self.start(*arguments, "--json") as child:
            return finish(child)

    def start(self, *arguments: str) -> Child:
        """``manage.py`` of this installation as a process that goes on."""
        manage = str(settings.BASE_DIR / "manage.py")
        return Child(
            [sys.executable, manage, *arguments],
            environment=self._variables(),
            cwd=settings.BASE_DIR,
        )

    def _variables(self) -> dict[str, str]:
        files = {
            f"{name.upper()}_DATABASE_URL_FILE": str(self.home / f"{name}.url")
            for name in ENVIRONMENTS
        }
        own = {
            "SKINSPIRE_HOME": str(self.home),
            # Not that of the installation: it names the environments' own addresses and storages.
            "SKINSPIRE_DOTENV": str(self.home / "dotenv"),
            "SKINSPIRE_PG_BIN": settings.SKINSPIRE_PG_BIN,
            "DBOPS_MASKING_FILE": str(self.home / "masking.toml"),
            "DJANGO_SETTINGS_MODULE": str(settings.SETTINGS_MODULE),
        }
        return files | own

    def _prepare(self) -> None:
        (self.home / "secret_key").write_text(secrets.token_urlsafe(48))
        (self.home / "masking.toml").write_text(_MASKS)
        secret = {f"{name}.url": _url(self.database(name)) for name in ENVIRONMENTS} | {
            "dotenv": ""
        }
        for name, content in secret.items():
            (self.home / name).touch(mode=0o600)
            (self.home / name).write_text(content)
        params = self.database("sample")
        with session(self.server) as control:
            if not server_facts(control).can_create_databases:
                raise PrivilegeError(
                    "The features are tried on databases of their own, which this role may not "
                    "create.",
                    hint=f"As a superuser, once: ALTER ROLE {params.user} CREATEDB",
                )
            create_database(control, params.database, None)
        with session(params) as connection, transaction(connection):
            execute(connection, _SAMPLE.read_text("utf-8"))
            execute(connection, "ANALYZE")
        for name in ENVIRONMENTS:
            self.fill(name)
        with self.start("migrate", "--database=control", "--verbosity=0") as child:
            answer = finish(child)
        if answer.code:
            raise ConfigurationError(f"The scratch installation cannot be set up, {answer.told}")


def finish(child: Child) -> Answer:
    """What a started command says until it ends."""
    out = b"".join(child.read()).decode("utf-8", "replace")
    return Answer(child.wait(allowed=_CODES), out, child.stderr)


@contextmanager
def scratch_installation(environment: str) -> Iterator[Scratch]:
    """An installation on the server of ``environment``; nothing of it is left afterwards.

    Raises:
        ConnectionFailedError: the server does not answer.
        PrivilegeError: the role may not create databases there.
    """
    server = conf.database_params(environment).with_database(MAINTENANCE)
    identifier = secrets.token_hex(4)
    with session(server, application="skinspire features") as held:
        _clear_after_killed(held)
        fetch_value(held, "SELECT pg_advisory_lock(%s, %s)", [_LOCK, _key(identifier)])
        home = Path(tempfile.mkdtemp(prefix=f"{_HOME_PREFIX}{identifier}-"))
        try:
            scratch = Scratch(identifier, home, server)
            scratch._prepare()
            yield scratch
        finally:
            _drop_all(server, identifier)
            shutil.rmtree(home, ignore_errors=True)


def _drop_all(server: ConnectionParams, identifier: str) -> None:
    with session(server) as control:
        for name in _databases(control):
            if name.startswith(f"{_PREFIX}{identifier}_"):
                drop_database(control, name)


def _clear_after_killed(control: Connection) -> None:
    """Drop what rehearsals left whose lock nobody holds any more: their process was killed."""
    for name in _databases(control):
        match = _OURS.match(name)
        if match is None:
            continue
        key = [_LOCK, _key(match["id"])]
        if fetch_value(control, "SELECT pg_try_advisory_lock(%s, %s)", key):
            drop_database(control, name)
            fetch_value(control, "SELECT pg_advisory_unlock(%s, %s)", key)
            for home in Path(tempfile.gettempdir()).glob(f"{_HOME_PREFIX}{match['id']}-*"):
                shutil.rmtree(home, ignore_errors=True)


def _databases(control: Connection) -> list[str]:
    rows = fetch_all(
        control,
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND "
        "pg_has_role(datdba, 'USAGE') ORDER BY 1",
        [_PREFIX],
    )
    return [name for (name,) in rows]


def _key(identifier: str) -> int:
    return int(identifier, 16) - (1 << 31)


_TABLES = """SELECT format('%I.%I', n.nspname, c.relname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'skinspire') ORDER BY 1"""
_HASH = (
    "SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), '')) FROM {table} t"
)
_MASKS = """
[safe]
columns = ["ward.visits.*"]
["ward.patients"]
name = "name"
email = "email"
born = "date_shift"
notes = "null"
created_by = "null"
updated_by = "null"
["ward.sessions"]
rows = "leave out"
"""


def _url(params: ConnectionParams) -> str:
    """Host and port as options: a directory of sockets or an address of IPv6 may stand there."""
    user, password = quote(params.user, ""), quote(params.password, "")
    account = f"{user}:{password}" if password else user
    place = {"host": params.host, "port": str(params.port)}
    given = {name: value for name, value in (place | dict(params.extra)).items() if value}
    options = urlencode(given, quote_via=quote)  # libpq takes a + for itself, not for a blank
    return f"postgresql://{account}{account and '@'}/{quote(params.database, '')}?{options}"
