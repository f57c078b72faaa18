"""What is configured, turned into what operations take."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.files.storage import FileSystemStorage, storages
from django.db import DEFAULT_DB_ALIAS, connections

from dbops.backups.encryption import Keys
from dbops.backups.store import BackupStore
from dbops.exceptions import ConfigurationError, ToolError, UnknownEnvironmentError
from dbops.masking.rules import Rules, load_rules
from dbops.postgres.databases import settled
from dbops.postgres.embedded import EmbeddedServer
from dbops.postgres.params import DEFAULT_PORT, ConnectionParams
from dbops.postgres.process import run
from dbops.postgres.triggers import HistoryRule, Wishes
from skinspire.databases import EMBEDDED, REPLICA_SUFFIX
from skinspire.environment import ENVIRONMENTS, UnknownEnvironment, normalize_environment
from skinspire.guarantees import trigger_sets

# Keywords we set ourselves.
_NOT_PASSED_ON = {"application_name", "client_encoding", "connect_timeout"}

_SHORTEST_MASKING_KEY = 32


def active_environment() -> str:
    """The environment this process runs in."""
    return str(settings.ENVIRONMENT.name)


def resolve_environment(name: str | None) -> str:
    """The environment a user named, or the active one. Raises UnknownEnvironmentError."""
    try:
        return normalize_environment(name) if name is not None else active_environment()
    except UnknownEnvironment as error:
        raise UnknownEnvironmentError(str(error)) from error


def database_params(environment: str, *, while_unknown: bool = False) -> ConnectionParams:
    """How to reach an environment's database; of several hosts, the one that answers now.

    Args:
        while_unknown: also where nobody can say which environment is the active one.

    Raises:
        ConfigurationError: the embedded server that would serve it was never started.
    """
    return settled(configured_params(environment, while_unknown=while_unknown))


def configured_params(environment: str, *, while_unknown: bool = False) -> ConnectionParams:
    """How to reach an environment's database, without looking for it.

    Args:
        while_unknown: also where nobody can say which environment is the active one.

    Raises:
        ConfigurationError: the embedded server that would serve it was never started.
    """
    unknown = settings.CONFIGURATION_ERROR and settings.CONFIGURATION_ERROR[0] == "dbops.E001"
    configured = (settings.DATABASES if while_unknown and unknown else _databases())[environment]
    if configured.get(EMBEDDED):
        return embedded_server().params(configured["NAME"])
    options: dict[str, Any] = dict(configured.get("OPTIONS") or {})
    return ConnectionParams(
        database=configured["NAME"],
        host=configured["HOST"],
        port=configured["PORT"] or DEFAULT_PORT,
        user=configured["USER"],
        password=configured["PASSWORD"],
        extra={key: str(value) for key, value in options.items() if key not in _NOT_PASSED_ON},
    )


def session_alias(environment: str) -> str:
    """The Django alias that sessions on an environment go by: the active one's is ``default``."""
    _require_configuration()
    return DEFAULT_DB_ALIAS if environment == active_environment() else environment


def direct_alias(alias: str) -> str:
    """The alias that leads to the same database past a pooler: migrations lock and set things."""
    if alias != DEFAULT_DB_ALIAS or settings.CONFIGURATION_ERROR:
        return alias
    direct = active_environment()
    pooled = settings.DATABASES[DEFAULT_DB_ALIAS] is not settings.DATABASES[direct]
    return direct if pooled else alias


def replica_alias(environment: str) -> str | None:
    """The alias of an environment's replica, or None where it has none."""
    alias = environment + REPLICA_SUFFIX
    return alias if alias in _databases() else None


def embedded_server() -> EmbeddedServer:
    """The embedded server of this installation, running or not."""
    return EmbeddedServer(settings.SKINSPIRE_HOME / "postgres")


def embedded_environments() -> tuple[str, ...]:
    """Environments without a URL of their own."""
    databases = _databases()
    return tuple(name for name in ENVIRONMENTS if databases[name].get(EMBEDDED))


def _databases() -> dict[str, dict[str, Any]]:
    _require_configuration()
    return dict(settings.DATABASES)


def _require_configuration() -> None:
    if settings.CONFIGURATION_ERROR:
        raise ConfigurationError(settings.CONFIGURATION_ERROR[1], hint="python manage.py check")


def refresh_embedded() -> None:
    """Point this process's Django connections at the embedded server, which it started just now:
    its port and password were not known when the settings were read."""
    server = embedded_server()
    for alias in connections:
        configured = connections.settings[alias]
        if configured.get(EMBEDDED):
            params = server.params(configured["NAME"])
            fresh: dict[str, Any] = {"PORT": str(params.port), "PASSWORD": params.password}
            connections[alias].close()
            configured.update(fresh)
            connections[alias].settings_dict.update(fresh)


def backup_store() -> BackupStore:
    """Where backups lie. Raises ConfigurationError where the settings do not tell."""
    _require_configuration()
    storage = storages["dbbackup"]
    local = isinstance(storage, FileSystemStorage)
    directory = Path(storage.path("")) if local else None
    return BackupStore(storage, signing_keys(), directory)


def encryption_keys() -> Keys:
    """What backups are encrypted for, and what opens them."""
    return Keys(
        recipients=tuple(settings.BACKUP_RECIPIENTS),
        identity=settings.BACKUP_SECRET_IDENTITY,
        gpg_recipient=settings.DBBACKUP_GPG_RECIPIENT,
        gpg_passphrase=settings.BACKUP_GPG_PASSPHRASE,
        gpg_home=Path(settings.GNUPGHOME) if settings.GNUPGHOME else None,
        gpg_always_trust=settings.DBBACKUP_GPG_ALWAYS_TRUST,
    )


def signing_keys() -> tuple[bytes, ...]:
    """Keys of manifests and journal, derived from SECRET_KEY and its fallbacks; the first signs."""
    found = [str(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    if not settings.SECRET_KEY:
        raise ConfigurationError("SECRET_KEY is not set.", hint="python manage.py check")
    return tuple(map(signing_key, found))


def signing_key(secret: str) -> bytes:
    """The key of manifests and journal that a SECRET_KEY gives."""
    return hmac.new(secret.encode(), b"skinspire.signing", hashlib.sha256).digest()


def trigger_wishes() -> Wishes:
    """Whose ids triggers take, and which tables' history they keep. Raises ConfigurationError."""
    users = apps.get_model(settings.AUTH_USER_MODEL)._meta.db_table
    return Wishes(
        # Django's tables stand in PostgreSQL's default schema.
        users=f"public.{users}",
        history=tuple(HistoryRule.parse(it) for it in settings.DBOPS_ROW_HISTORY),
        event_trigger=bool(settings.DBOPS_EVENT_TRIGGER),
        sets=trigger_sets(),
    )


def masking_rules() -> Rules:
    """What is masked and how. Raises MaskingError where the file cannot be understood."""
    return load_rules(Path(settings.DBOPS_MASKING_FILE))


def masking_key() -> bytes:
    """What false values are drawn by, from MASKING_KEY or else from SECRET_KEY. The same key draws
    the same ones, so a new SECRET_KEY means new false values; its fallbacks play no part."""
    given = settings.MASKING_KEY or settings.SECRET_KEY
    if settings.MASKING_KEY and len(given) < _SHORTEST_MASKING_KEY:
        raise ConfigurationError(
            f"MASKING_KEY is shorter than {_SHORTEST_MASKING_KEY} characters: it could be guessed.",
            hint="python -c 'import secrets; print(secrets.token_urlsafe(48))' makes a good one.",
        )
    return hmac.new(str(given).encode(), b"skinspire.masking", hashlib.sha256).digest()


@lru_cache(maxsize=1)
def code_revision() -> str:
    """The git revision of this code; "" where it does not come from a repository."""
    try:
        return run(["git", "-C", settings.BASE_DIR, "rev-parse", "HEAD"]).strip()
    except ToolError:
        return ""


def tools_directory() -> Path | None:
    """``SKINSPIRE_PG_BIN``, or None to search."""
    return Path(settings.SKINSPIRE_PG_BIN) if settings.SKINSPIRE_PG_BIN else None


def journal_file() -> Path:
    """The append-only copy of the journal."""
    return Path(settings.SKINSPIRE_HOME) / "journal.jsonl"
