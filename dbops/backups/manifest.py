"""The manifest beside a backup: what it holds, and proof that nobody changed either.

A backup without a valid manifest does not exist. The signature (HMAC-SHA256 over the canonical
JSON of everything else) is what a checksum alone is not: whoever alters the archive and computes
its checksum anew still lacks the key.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from dbops.exceptions import BackupInvalidError
from dbops.postgres.fingerprint import Fingerprint

SUFFIX = ".metadata"
FORMAT = "skinspire-backup-2"
_READABLE = ("skinspire-backup-1", FORMAT)
MAX_BYTES = 64 << 20
"""A manifest larger than this is not read: ten thousand tables take about one megabyte."""


@dataclass(frozen=True)
class Manifest:
    """Everything known of one backup. Times are ISO 8601 UTC, sizes bytes, durations seconds."""

    name: str
    environment: str
    database: str
    created_at: str
    seconds: float
    size: int
    sha256: str
    encrypted: bool
    server_version: str
    server_major: int
    dump_version: int
    fingerprint: Mapping[str, Any]
    """:class:`~dbops.postgres.fingerprint.Fingerprint` under the snapshot the dump saw."""
    owners: Sequence[str]
    grantees: Sequence[str]
    migrations: Sequence[str]
    actor: str
    operation: str
    excluded: Sequence[str] = ()
    """What was left out: pg_dump's options, or ``--rows-of=TABLE``, beside whose rows there are
    only definitions. Such a backup is partial."""
    encryption: str = ""
    """``age``, ``gpg`` or "". What follows came with the format's second version."""
    tool: str = ""
    """pg_dump as it calls itself: ``pg_dump (PostgreSQL) 18.4``."""
    database_size: int = 0
    """Bytes on the server."""
    properties: Mapping[str, Any] | None = None
    """What pg_dump leaves out: the database's own encoding, locale, owner, grants, settings,
    comment and connection limit (:class:`~dbops.postgres.databases.DatabaseFacts`)."""
    extensions: Mapping[str, str] | None = None
    """{extension: version}."""
    privileged: Sequence[str] = ()
    """Entries of the archive that only a superuser can restore."""
    largest_tables: Mapping[str, int] | None = None
    """{"schema.table": bytes on the server}, the largest first."""
    unmasked: str = ""
    """The protected environment whose rows it holds as they are, having been copied from there."""
    revision: str = ""
    """The git revision of the code that ran; "" where there is none."""
    format: str = FORMAT

    @property
    def origin(self) -> str:
        """The environment whose rows these are."""
        return self.unmasked or self.environment

    def origin_for(self, target: str) -> str:
        """The environment whose rows would arrive in another one; itself where they come home."""
        return target if self.environment == target else self.origin

    @property
    def content(self) -> Fingerprint:
        return Fingerprint.from_json(self.fingerprint)


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _signature(content: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, _canonical(content), hashlib.sha256).hexdigest()


def encode_manifest(manifest: Manifest, key: bytes) -> bytes:
    """The signed JSON to store.

    ``engine`` and ``connector`` are what django-dbbackup's own commands look for.
    """
    content = asdict(manifest) | {
        "engine": "django.db.backends.postgresql",
        "connector": "dbbackup.db.postgresql.PgDumpBinaryConnector",
    }
    signed = content | {"hmac": _signature(content, key)}
    return json.dumps(signed, indent=1, sort_keys=True, ensure_ascii=False).encode()


def decode_manifest(data: bytes, keys: Sequence[bytes], name: str) -> Manifest:
    """Read and verify a manifest.

    Args:
        keys: the signing key and, after a rotation, its predecessors.
        name: the backup it is to describe; one that describes another is refused.

    Raises:
        BackupInvalidError: not a manifest, altered, signed by another key, or of another backup.
    """
    try:
        content = json.loads(data)
        signature = content.pop("hmac")
        if content["format"] not in _READABLE:
            raise BackupInvalidError(f"The manifest of {name} is of an unknown format.")
        written = str(signature).encode()
        valid = any(hmac.compare_digest(_signature(content, key).encode(), written) for key in keys)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupInvalidError(f"The manifest of {name} cannot be read.") from error
    if not valid:
        raise BackupInvalidError(
            f"The signature of {name} is not valid: its manifest was altered, or signed elsewhere.",
            hint="A backup signed elsewhere can be restored as a foreign dump: dbrestore -I PATH",
        )
    if content["name"] != name:
        raise BackupInvalidError(f"The manifest of {name} describes {content['name']}.")
    for name in ("excluded", "privileged"):
        content[name] = tuple(content.get(name, ()))
    known = {field.name for field in fields(Manifest)}
    return Manifest(**{key: value for key, value in content.items() if key in known})
