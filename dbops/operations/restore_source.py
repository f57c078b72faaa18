"""What a restore loads: one of our backups, or a dump made elsewhere. Both can be looked at before
anything is touched, and both load into an empty database."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

from dbops.backups.codec import Meter, decompress
from dbops.backups.encryption import Keys, decrypt
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore
from dbops.exceptions import (
    BackupInvalidError,
    PrivilegeError,
)
from dbops.operations.context import OperationContext
from dbops.operations.guards import Endpoint, Preflight
from dbops.postgres import archive, archive_load, roles
from dbops.postgres.archive_script import ArchiveScript
from dbops.postgres.connection import session
from dbops.postgres.databases import MAINTENANCE
from dbops.postgres.fingerprint import Fingerprint
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import CHUNK
from dbops.postgres.tools import find_tool
from dbops.postgres.triggers import history


@dataclass(frozen=True)
class LoadOptions:
    """How a source is loaded."""

    jobs: int = 1
    no_owner: bool = False
    """Everything belongs to the connecting role; grants to roles that are missing are left out."""
    skip_privileged: bool = False
    """Leave out what only a superuser can make."""
    pg_bin: Path | None = None


class Source(Protocol):
    """What a restore loads."""

    name: str
    size: int
    """Bytes the database took where it was dumped; 0 where nobody knows."""
    major: int
    """PostgreSQL's, where it was dumped; 0 where nobody knows."""
    partial: bool
    """Whether rows were left out of it."""

    @property
    def expected(self) -> Fingerprint | None:
        """What has to arrive; None for a dump made elsewhere."""

    def look(self, endpoint: Endpoint, problems: Preflight) -> None:
        """Read it as far as needed and collect what is in the way. Raises what makes it unusable:
        damaged, forged, encrypted for others."""

    def load(self, target: ConnectionParams, rows_of: frozenset[str] | None = None) -> None:
        """Load it into an empty database.

        Args:
            rows_of: tables whose rows are loaded, where the source can choose; None for all.
        """

    def lacks(self, tables: Sequence[str], schemas: Sequence[str], endpoint: Endpoint) -> list[str]:
        """Those it certainly does not hold; of a dump made elsewhere that is not known."""

    def script(self) -> IO[bytes]:
        """The same as one script of SQL."""


class BackupSource:
    """A backup of ours. Its signature was checked when its manifest was read."""

    def __init__(
        self,
        store: BackupStore,
        manifest: Manifest,
        keys: Keys,
        options: LoadOptions,
        context: OperationContext,
    ) -> None:
        self.name, self.size = manifest.name, manifest.database_size
        self.manifest, self.partial = manifest, bool(manifest.excluded)
        self.major = manifest.server_major
        self._store, self._keys, self._options, self._context = store, keys, options, context
        self._tool: Path | None = None
        self._contents: archive.Contents | None = None
        self._restore_options: tuple[str, ...] = ()
        self._without: frozenset[str] = frozenset()
        self._leaves_history = False

    @property
    def expected(self) -> Fingerprint:
        content = self.manifest.content
        left_out = len(self._without_tag("EVENT TRIGGER")), len(self._without_tag("PUBLICATION"))
        if any(left_out) and content.objects is not None:
            objects = dict(content.objects)
            for kind, count in zip(("event triggers", "publications"), left_out, strict=True):
                objects[kind] = objects.get(kind, 0) - count
            content = replace(content, objects=objects)
        if self._leaves_history and content.history is not None:
            content = replace(content, history=0)
        if self._restore_options:  # owners and grants were not to arrive
            content = replace(content, grants_digest=None)
        return content

    def _without_tag(self, tag: str) -> list[str]:
        return [line for line in self._without if f" {tag} - " in line and "COMMENT" not in line]

    def look(self, endpoint: Endpoint, problems: Preflight) -> None:
        manifest = self.manifest
        problems.require_not_newer(manifest.name, manifest.server_major, endpoint.server)
        problems.check()  # what a newer one wrote cannot even be looked at
        verify_checksum(self._store, manifest, self._context)
        self._contents = self._read_contents(endpoint)
        with session(endpoint.params.with_database(MAINTENANCE)) as control:
            problems.require_extensions(control, manifest.content.extensions)
            owners, grantees = list(manifest.owners), list(manifest.grantees)
            if self._options.no_owner:
                self._restore_options = self._remap(roles.missing_roles(control, grantees))
            else:
                problems.require_roles(control, owners, grantees)
        self._look_at_privileged(endpoint, problems)
        if manifest.environment != endpoint.environment:
            self._leave_history()

    def _read_contents(self, endpoint: Endpoint) -> archive.Contents:
        self._tool = find_tool("pg_restore", endpoint.server.major, self._options.pg_bin)
        return archive.read_contents(self._tool, self.opened, self._context.check_cancelled)

    def _leave_history(self) -> None:
        """What happened to rows in one environment is not told in another."""
        assert self._contents is not None
        self._leaves_history = True
        mark = f" TABLE DATA {history.TABLE.replace('.', ' ')} "
        self._without |= {line for line in self._contents.lines if mark in line}

    def _remap(self, missing: list[str]) -> tuple[str, ...]:
        self._context.log("Everything will belong to the connecting role")
        if not missing:
            return ("--no-owner",)
        self._context.log(f"Grants are left out: there is no role {', '.join(missing)}")
        return ("--no-owner", "--no-privileges")

    def _look_at_privileged(self, endpoint: Endpoint, problems: Preflight) -> None:
        if endpoint.server.superuser or not self.manifest.privileged:
            return
        if not self._options.skip_privileged:
            names = ", ".join(map(_readable, self.manifest.privileged))
            problems.add(PrivilegeError(
                f"Only a superuser can restore what {self.name} holds: {names}.",
                hint="Restore as a superuser; or --skip-privileged: all the rest is restored.",
            ))  # fmt: skip
            return
        assert self._contents is not None
        # Of its comment the archive writes the kind after the dash.
        marks = [
            mark
            for entry in self.manifest.privileged
            for mark in (f" {entry} ", f" COMMENT - {entry.replace(' - ', ' ', 1)} ")
        ]
        lines = [line for line in self._contents.lines if any(mark in line for mark in marks)]
        self._without = frozenset(lines)
        for entry in self.manifest.privileged:
            self._context.log(f"Left out, as only a superuser can make it: {_readable(entry)}")

    @contextmanager
    def opened(self) -> Iterator[Iterator[bytes]]:
        """The archive, decrypted and decompressed."""
        with self._store.reading(self.name) as chunks:
            yield decompress(decrypt(chunks, self._keys, self._context.check_cancelled))

    @contextmanager
    def _metered(self) -> Iterator[Iterator[bytes]]:
        """The same, hashed: it may have been replaced since it was verified."""
        meter = Meter()
        with self._store.reading(self.name) as chunks:
            watched = self._watched(meter.watch(chunks))
            yield decompress(decrypt(watched, self._keys, self._context.check_cancelled))
            for _ in meter.watch(chunks):  # what pg_restore did not need
                self._context.check_cancelled()
        if (meter.size, meter.sha256) != (self.manifest.size, self.manifest.sha256):
            raise BackupInvalidError(f"{self.name} changed while it was read.")

    def _watched(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            done += len(chunk)
            self._context.step("load", done, self.manifest.size)
            yield chunk

    def load(self, target: ConnectionParams, rows_of: frozenset[str] | None = None) -> None:
        assert self._tool is not None
        assert self._contents is not None
        tables = self.manifest.content.tables
        how = archive_load.Load(
            self._tool,
            self._contents,
            self._metered,
            jobs=self._options.jobs,
            options=self._restore_options,
            weights=self.manifest.largest_tables or tables,
            only_rows_of=rows_of,
            without=self._without,
        )
        archive_load.load(target, how, self._context.check_cancelled)

    def lacks(self, tables: Sequence[str], schemas: Sequence[str], endpoint: Endpoint) -> list[str]:
        counted = self.manifest.content.tables  # not among them: a partitioned one, an empty schema
        tables = [table for table in tables if table not in counted]
        present = {table.split(".", 1)[0] for table in counted}
        schemas = [schema for schema in schemas if schema not in present]
        if not tables and not schemas:
            return []
        contents = self._contents or self._read_contents(endpoint)
        entries = contents.entries("TABLE ", "SCHEMA ")
        wanted = {f" TABLE {table.replace('.', ' ', 1)} ": table for table in tables}
        wanted |= {f" SCHEMA - {schema} ": schema for schema in schemas if schema != "public"}
        return [name for mark, name in wanted.items() if not any(mark in line for line in entries)]

    def script(self) -> IO[bytes]:
        assert self._tool is not None
        script = ArchiveScript(
            self._tool, self._metered, self._context.check_cancelled, self._restore_options
        )
        return io.BufferedReader(script, CHUNK)


def _readable(entry: str) -> str:
    kind, _, name = entry.partition(" - ")
    return f"{kind.lower()} {name}"


def verify_checksum(store: BackupStore, manifest: Manifest, context: OperationContext) -> None:
    """Read the whole file and compare size and sha256 with the manifest.

    Raises:
        BackupInvalidError: truncated or altered.
    """
    meter = Meter()
    with store.reading(manifest.name) as chunks:
        for _ in meter.watch(chunks):
            context.step("verify", meter.size, manifest.size)
    if meter.size != manifest.size:
        raise BackupInvalidError(
            f"{manifest.name} holds {meter.size} of {manifest.size} bytes: it is truncated "
            f"or was replaced."
        )
    if meter.sha256 != manifest.sha256:
        raise BackupInvalidError(f"{manifest.name} is damaged: its checksum does not match.")
