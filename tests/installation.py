"""An installation as a user has it: a home, three databases, manage.py in its own processes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbops.postgres.connection import execute, fetch_all, fetch_value, session
from dbops.postgres.params import ConnectionParams
from tests import servers
from tests.servers import Server
from tests.warm import run_manage

REPOSITORY = Path(__file__).parents[1]
PROVE = (
    "SELECT md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), '')) FROM ONLY {} t"
)


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)  # type: ignore[no-any-return]


@dataclass
class Installation:
    """One home and the databases dev, test and prod of one server."""

    server: Server
    home: Path
    databases: dict[str, ConnectionParams]
    variables: dict[str, str] = field(default_factory=dict)
    moved: dict[str, Server] = field(default_factory=dict)
    """Environments whose database is on another server."""

    @classmethod
    @contextmanager
    def create(cls, server: Server, home: Path) -> Iterator[Installation]:
        tag = secrets.token_hex(3)
        names = {name: f"{name}_{tag}" for name in ("dev", "test", "prod")}
        databases = {name: server.create_database(database) for name, database in names.items()}
        made = cls(server, home, databases)
        shutil.copy(_control_template(), home / "control.sqlite3")
        (home / "secret_key").write_text(secrets.token_urlsafe(48))
        try:
            yield made
        finally:
            made._drop(tag)

    def move(self, environment: str, server: Server) -> None:
        """Give an environment an empty database on another server instead."""
        name = self.databases[environment].database
        self.databases[environment] = server.create_database(name)
        self.moved[environment] = server

    def _drop(self, tag: str) -> None:
        for server in (self.server, *self.moved.values()):
            with session(server.superuser) as connection:
                rows = fetch_all(
                    connection,
                    "SELECT datname FROM pg_database WHERE datname ~ %s",
                    [f"_{tag}(__|$)"],
                )
            for (name,) in rows:
                server.drop_database(name)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.endswith("_DATABASE_URL") and not key.startswith(("PG", "DJANGO_"))
        }
        urls = {
            f"{name.upper()}_DATABASE_URL": self.moved.get(name, self.server).url(params.database)
            for name, params in self.databases.items()
        }
        return (
            kept
            | urls
            | {"SKINSPIRE_HOME": str(self.home), "SKINSPIRE_ENV": "dev"}
            | self.variables
        )

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """manage.py as a process in a group of its own."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments], cwd=REPOSITORY, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, *arguments: str, code: int | None = 0, **options: Any) -> Answer:
        """manage.py to its end; ``code`` is what it has to exit with (None: anything)."""
        if options:
            process = self.start(*arguments, **options)
            out, err = process.communicate(timeout=240)
            answer = Answer(process.returncode, out, err)
        else:
            answer = Answer(*run_manage(arguments, self.environment))
        assert code is None or answer.code == code, f"{arguments}: {answer}"
        assert "Traceback" not in answer.err, answer.err
        return answer

    def result(self, *arguments: str) -> dict[str, Any]:
        """``result`` of a command that has to succeed, run with --json."""
        return self.run(*arguments, "--json").json["result"]  # type: ignore[no-any-return]

    def refused(self, *arguments: str, code: int = 1, **options: Any) -> dict[str, Any]:
        """``error`` of a command that has to be refused, run with --json."""
        return self.run(*arguments, "--json", code=code, **options).json["error"]  # type: ignore[no-any-return]

    def hashes(self, environment: str) -> dict[str, str]:
        """{"schema.table": hash over its rows} plus sequences: what "unchanged" means."""
        return row_hashes(self.databases[environment])

    def sql(self, environment: str, statement: str) -> Any:
        """Run SQL in an environment's database; the first value, if there is one."""
        with session(self.databases[environment]) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def scratch(self) -> list[str]:
        """Databases of this installation that bear a scratch name."""
        tag = next(iter(self.databases.values())).database.split("_")[1]
        found = []
        for server in (self.server, *self.moved.values()):
            with session(server.params) as connection:
                found += fetch_all(
                    connection,
                    "SELECT datname FROM pg_database WHERE datname ~ %s ORDER BY 1",
                    [f"_{tag}__(incoming|previous)_"],
                )
        return [name for (name,) in found]


def row_hashes(params: ConnectionParams) -> dict[str, str]:
    """A hash over each table's rows and each sequence's state, outside our own schema."""
    found: dict[str, str] = {}
    with session(params) as connection:
        rows = fetch_all(
            connection,
            """SELECT format('%I.%I', n.nspname, c.relname), c.relkind
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'S', 'm') AND n.nspname !~ '^pg_'
                  AND n.nspname NOT IN ('information_schema', 'skinspire') ORDER BY 1""",
        )
        for name, kind in rows:
            statement = (
                f"SELECT last_value::text || is_called FROM {name}"
                if kind == "S"
                else PROVE.format(name).replace("ONLY ", "" if kind == "m" else "ONLY ")
            )
            found[name] = str(fetch_value(connection, statement))
    return found


def _control_template() -> Path:
    """A migrated control database, made once a run and copied for every installation."""
    home = servers.test_root() / f"template-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    template = home / "control.sqlite3"
    if not template.exists():
        home.mkdir()
        environment = os.environ | {"SKINSPIRE_HOME": str(home)}
        code, _, err = run_manage(("migrate", "--database=control", "--verbosity=0"), environment)
        assert code == 0, err
        # Into one file: a copy must not miss what is still in the write-ahead log.
        subprocess.run(
            [sys.executable, "-c",
             "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]);"
             "c.execute('PRAGMA wal_checkpoint(TRUNCATE)')", str(template)],
            check=True,
        )  # fmt: skip
    return template


@contextmanager
def reached_as(
    installation: Installation, attributes: str, environment: str = "test"
) -> Iterator[None]:
    """The environment is reached by a role of its own, which may act for its owner."""
    params = installation.databases[environment]
    variable, role = f"{environment.upper()}_DATABASE_URL", f"role_{params.database}"
    with session(installation.server.superuser) as control:
        execute(
            control, f"CREATE ROLE {role} LOGIN PASSWORD 'x' {attributes} IN ROLE {params.user}"
        )
        installation.variables[variable] = (
            f"postgresql://{role}:x@{params.host}:{params.port}/{params.database}"
        )
        try:
            yield
        finally:
            del installation.variables[variable]
            for name in [params.database, *installation.scratch()]:
                superuser = installation.server.superuser.with_database(name)
                with session(superuser) as it:
                    execute(it, f"REASSIGN OWNED BY {role} TO {params.user}")
                    execute(it, f"DROP OWNED BY {role}")
            execute(control, f"DROP ROLE {role}")
