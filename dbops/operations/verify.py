"""Prove that a backup can be restored: by its checksum, or by restoring it aside and comparing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dbops.backups.encryption import Keys
from dbops.backups.manifest import Manifest
from dbops.backups.store import BackupStore
from dbops.exceptions import BackupInvalidError, UsageError
from dbops.operations.context import OperationContext
from dbops.operations.guards import Endpoint, Preflight, inspect_endpoint, require_can_replace
from dbops.operations.replacement import building, drop_built
from dbops.operations.restore_source import BackupSource, LoadOptions, verify_checksum
from dbops.postgres import roles
from dbops.postgres.connection import session
from dbops.postgres.databases import MAINTENANCE
from dbops.postgres.fingerprint import (
    Fingerprint,
    checksum_differences,
    row_differences,
    sequence_differences,
    structure_differences,
    take_fingerprint,
)
from dbops.postgres.params import ConnectionParams
from dbops.wording import counted


@dataclass(frozen=True)
class VerifyRequest:
    """Which backup to prove, and how."""

    store: BackupStore
    name: str
    keys: Keys = field(default_factory=Keys)
    full: bool = False
    """Restore it aside, compare, and drop what was restored."""
    database: ConnectionParams | None = None
    """Beside which database it is restored; only for ``full``."""
    environment: str = ""
    load: LoadOptions = field(default_factory=LoadOptions)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    value: str


@dataclass(frozen=True)
class VerifyResult:
    """Everything that was looked at."""

    name: str
    verified: bool
    checks: Sequence[Check]


def verify_backup(request: VerifyRequest, context: OperationContext) -> VerifyResult:
    """Read the backup whole; with ``full``, restore it aside and compare what arrived.

    Raises:
        BackupInvalidError: it is not what its manifest says; ``result`` holds the checks.
        BackupNotFoundError: there is none of that name.
        PreflightError, PrivilegeError, VersionMismatchError: it cannot be restored here.
    """
    manifest = request.store.read_manifest(request.name)
    if request.full and manifest.excluded:
        raise UsageError(
            f"{manifest.name} is partial: its checksum can be verified, not a whole restore.",
            hint="Leave out --full.",
        )
    checks = [Check("signature", True, f"signed, {manifest.format}")]
    verify_checksum(request.store, manifest, context)
    checks.append(Check("checksum", True, f"sha256 over {manifest.size} bytes"))
    if request.full:
        checks += _restore_and_compare(request, manifest, context)
    result = VerifyResult(request.name, all(check.ok for check in checks), checks)
    if not result.verified:
        wrong = "; ".join(f"{check.name}: {check.value}" for check in checks if not check.ok)
        raise BackupInvalidError(
            f"{request.name} does not hold what it should: {wrong}.", result=_plain(result)
        )
    return result


def _plain(result: VerifyResult) -> dict[str, Any]:
    checks = [vars(check) for check in result.checks]
    return {"name": result.name, "verified": result.verified, "checks": checks}


def _restore_and_compare(
    request: VerifyRequest, manifest: Manifest, context: OperationContext
) -> list[Check]:
    assert request.database is not None
    endpoint = inspect_endpoint(request.database, request.environment)
    require_can_replace(endpoint)
    options = _options(request, manifest, endpoint)
    source = BackupSource(request.store, manifest, request.keys, options, context)
    problems = Preflight()
    problems.require_space(endpoint.server, source.size)
    source.look(endpoint, problems)
    problems.check()
    with building(endpoint, context) as scratch:
        context.step("create")
        scratch.create_empty()
        source.load(scratch.incoming)
        context.step("compare")
        with session(scratch.incoming, application=context.application) as connection:
            actual = take_fingerprint(
                connection,
                context.check_cancelled,
                checksums=manifest.content.checksums is not None,
            )
        drop_built(scratch, context)
    return _compare(source.expected, actual, manifest, endpoint)


def _options(request: VerifyRequest, manifest: Manifest, endpoint: Endpoint) -> LoadOptions:
    """Here a missing role is no reason to refuse: what is proven are the contents."""
    with session(endpoint.params.with_database(MAINTENANCE)) as control:
        owned = roles.may_act_as(control, list(manifest.owners))
        known = not roles.missing_roles(control, list(manifest.grantees))
    return LoadOptions(
        jobs=request.load.jobs,
        no_owner=not (owned and known),
        skip_privileged=True,
        pg_bin=request.load.pg_bin,
    )


def _compare(
    expected: Fingerprint, actual: Fingerprint, manifest: Manifest, endpoint: Endpoint
) -> list[Check]:
    checks = [
        _check("rows", row_differences(expected, actual),
               f"{counted(expected.rows, 'row')} in {counted(len(expected.tables), 'table')}"),
        _check("structure", structure_differences(expected, actual),
               f"{counted(sum((expected.objects or {}).values()), 'object')}, constraints valid"),
        _check("sequences", sequence_differences(expected, actual),
               f"{len(expected.sequences or {})} where they stood"),
        Check("triggers", expected.trigger_digest == actual.trigger_digest,
              "as installed" if expected.trigger_digest == actual.trigger_digest else "differ"),
    ]  # fmt: skip
    if expected.checksums is not None:
        summed = counted(len(expected.checksums), "table")
        checks.append(_check("checksums", checksum_differences(expected, actual),
                             f"the rows of {summed}"))  # fmt: skip
    checks.append(_compare_grants(expected, actual, manifest, endpoint))
    return checks


def _check(name: str, differences: list[str], well: str) -> Check:
    more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
    return Check(name, not differences, "; ".join(differences[:3]) + more or well)


def _compare_grants(
    expected: Fingerprint, actual: Fingerprint, manifest: Manifest, endpoint: Endpoint
) -> Check:
    if expected.grants_digest is None:
        return Check("grants", True, "not compared: a role is missing here, or none were recorded")
    if manifest.server_major != endpoint.server.major:
        return Check("grants", True, "not compared: another major version knows other privileges")
    same = expected.grants_digest == actual.grants_digest
    return Check("grants", same, "as they were" if same else "differ")
