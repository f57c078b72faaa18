"""A backup under another code than the one that made it: newer, older, or of another branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from dbops import conf
from dbops.backups.earlier import is_earlier_backup
from dbops.code_migrations import pending_migrations, unknown_migrations
from dbops.exceptions import ConnectionFailedError, UnknownMigrationsError
from dbops.migrating import DjangoMigrator
from dbops.models import Operation
from dbops.operations.context import OperationContext
from dbops.operations.migration_run import apply_pending
from dbops.operations.migration_state import read_applied
from dbops.postgres.connection import session
from dbops.postgres.params import ConnectionParams
from dbops.postgres.triggers import install


def migrating(
    operation: Operation, context: OperationContext
) -> Callable[[ConnectionParams], tuple[str, ...]]:
    """What brings a restored database to this code's migrations, triggers included."""

    def migrate(database: ConnectionParams) -> tuple[str, ...]:
        applied = apply_pending(DjangoMigrator(operation.target), database, context)
        with session(database, actor=context.actor) as connection:
            install(connection, conf.trigger_wishes(), poll=context.check_cancelled)
        return applied

    return migrate


def _recorded(operation: Operation) -> Sequence[str]:
    """The migrations a whole backup of ours holds; of dumps made elsewhere nothing is judged."""
    options, store = operation.options, conf.backup_store()
    name = options.get("name")
    parts = options.get("tables") or options.get("schemas")
    if not name or parts or is_earlier_backup(store, name):
        return ()
    return store.read_manifest(name).migrations


def pending_after(operation: Operation, applied: Sequence[str]) -> list[str]:
    """What this code has beyond what was restored."""
    return pending_migrations([*_recorded(operation), *applied], operation.target)


def look_at_migrations(operation: Operation) -> None:
    """Refuse what a newer code, or another branch's, has written.

    What the target itself records, too, was known once, and this code has lived with it since.

    Raises:
        UnknownMigrationsError: they are named.
    """
    if operation.options.get("unknown_migrations") or operation.options.get("into"):
        return
    unknown = unknown_migrations(_recorded(operation))
    if not unknown:
        return
    with suppress(ConnectionFailedError):  # the target is gone: so much the more it is wanted
        unknown = sorted(set(unknown) - set(read_applied(conf.database_params(operation.target))))
    if unknown:
        raise UnknownMigrationsError(
            f"{operation.options['name']} holds migrations this code does not have: "
            f"{', '.join(unknown)}.",
            hint="Run it with the code that has them; --unknown-migrations restores it all the "
            "same, --into NAME beside.",
        )
