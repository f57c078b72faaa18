"""Every way an operation can fail, one class each, one clear sentence each.

The tree is flat: adapters catch :class:`DbopsError` and show ``str(error)``, ``error.code`` and
``error.hint`` (the next command to run). Nothing here knows Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DbopsError(Exception):
    """Something was refused or failed and the target is as it was."""

    code = "failed"
    hint = ""

    def __init__(
        self, message: str, *, hint: str = "", result: Mapping[str, Any] | None = None
    ) -> None:
        """``result``: what was found out all the same; ``--json`` shows it beside the error."""
        super().__init__(message)
        self.result = result
        if hint:
            self.hint = hint


class UsageError(DbopsError):
    """The request itself is malformed: nothing was looked at yet."""

    code = "usage"


class UnknownEnvironmentError(UsageError):
    """The named environment is none of dev, test and prod."""

    code = "unknown_environment"


class ConfigurationError(DbopsError):
    """A setting is missing or malformed."""

    code = "configuration"


class ConnectionFailedError(DbopsError):
    """The server does not answer, or refuses these credentials."""

    code = "connection_failed"


class PooledConnectionError(ConnectionFailedError):
    """A connection pooler answers where the server itself is needed."""

    code = "pooled_connection"


class StatementError(DbopsError):
    """The server refused a statement; the message is the server's own first line."""

    code = "statement_failed"


class ToolError(DbopsError):
    """A PostgreSQL tool is missing, of the wrong version, or ended with an error."""

    code = "tool_failed"


class VersionMismatchError(DbopsError):
    """Tool, archive and server are of versions that do not go together."""

    code = "version_mismatch"


class PrivilegeError(DbopsError):
    """The connecting role may not do what the operation needs."""

    code = "privilege"


class PreflightError(DbopsError):
    """Something the operation needs is missing; everything missing is named at once."""

    code = "preflight"


class SpaceError(PreflightError):
    """There is not room enough."""

    code = "no_space"


class PolicyError(DbopsError):
    """The rules of this installation do not allow the operation."""

    code = "refused"


class ConfirmationError(PolicyError):
    """A destructive operation was not confirmed."""

    code = "not_confirmed"


class StampError(PolicyError):
    """The database says it belongs to another environment than the settings say."""

    code = "stamp_mismatch"


class OtherEnvironmentError(PolicyError):
    """This process runs in another environment than was expected, or was to be switched to."""

    code = "other_environment"


class SameDatabaseError(PolicyError):
    """Source and target are one and the same database."""

    code = "same_database"


class LockedError(DbopsError):
    """Another operation holds the target."""

    code = "locked"


class BackupNotFoundError(DbopsError):
    """No backup of that name, or none at all, exists."""

    code = "backup_not_found"
    hint = "See what exists: python manage.py listbackups"


class BackupInvalidError(DbopsError):
    """The backup or its manifest is damaged, incomplete or forged."""

    code = "backup_invalid"
    hint = "Choose another backup: python manage.py listbackups"


class BackupEncryptedError(DbopsError):
    """The backup is encrypted, and no key that is set opens it."""

    code = "wrong_key"


class ForeignDumpError(DbopsError):
    """A dump made elsewhere holds something that is not restored."""

    code = "foreign_dump"


class StorageWriteError(DbopsError):
    """The backup storage cannot be written."""

    code = "storage"


class StorageReadError(DbopsError):
    """The backup storage cannot be read."""

    code = "storage"


class ProofError(DbopsError):
    """What was built does not equal what it was built from."""

    code = "not_proven"


class MaskingError(DbopsError):
    """The masking rules cannot be read, cannot work, or do not cover everything."""

    code = "masking"


class MisfitError(DbopsError):
    """Rows do not fit the schema they were to be loaded into."""

    code = "misfit"


class MigrationError(DbopsError):
    """Migrations could not be applied, undone or written; the message says what stands now."""

    code = "migration_failed"


class RehearsalError(MigrationError):
    """The rehearsal on a copy failed, so the target was not touched."""

    code = "rehearsal_failed"


class IrreversibleError(MigrationError):
    """A migration that was to be undone cannot be; nothing was touched."""

    code = "irreversible"


class UnknownMigrationsError(DbopsError):
    """A backup holds migrations that this code does not know."""

    code = "unknown_migrations"


class SwapError(DbopsError):
    """The new database could not take the place of the old one."""

    code = "swap_failed"


class NothingToUndoError(DbopsError):
    """No replaced database is kept for this target."""

    code = "nothing_to_undo"
    hint = "See what was done: python manage.py operations list"


class NotFoundError(DbopsError):
    """The database holds nothing of that name, or several things."""

    code = "not_found"


class CheckFailedError(DbopsError):
    """A database that was checked is not well."""

    code = "not_well"


class TriggerDriftError(DbopsError):
    """Triggers are missing, outdated or disabled."""

    code = "trigger_drift"
    hint = "Install them: python manage.py apply_triggers"


class DriftError(DbopsError):
    """Two databases are not defined alike."""

    code = "drift"


class FeatureError(DbopsError):
    """Something that was tried out did not do what it promises."""

    code = "feature_failed"
    hint = "The log says more; nothing was tried on the environment's own database."


class OperationNotFoundError(DbopsError):
    """No operation has that id."""

    code = "operation_not_found"
    hint = "See what was done: python manage.py operations list"


class ScheduleNotFoundError(DbopsError):
    """No schedule has that id."""

    code = "schedule_not_found"
    hint = "See what is planned: python manage.py schedule list"


class OperationCancelled(DbopsError):
    """The operation was asked to stop and the target is as it was."""

    code = "cancelled"


class UnforeseenError(DbopsError):
    """Nothing of ours: a bug, or a system that answers as nobody thought of."""

    code = "unforeseen"


def as_dbops_error(error: BaseException) -> DbopsError:
    """The sentence for any exception, for the edges that must not show a traceback."""
    if isinstance(error, DbopsError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return OperationCancelled("Cancelled; the target is as it was.")
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return UnforeseenError(f"{error.strerror}{where}.", hint="Check the path and its rights.")
    return UnforeseenError(
        f"Something unforeseen happened ({type(error).__name__}): {error}",
        hint="See where: run it again with --traceback",
    )
