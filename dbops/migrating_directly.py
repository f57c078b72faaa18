"""Django's own ``migrate``, beside which nothing else may change the database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections

from dbops import conf
from dbops.kinds.kind import Wanted
from dbops.kinds.migrations import PATIENCE
from dbops.migrating.journal import noting
from dbops.operations.context import OperationContext
from dbops.operations.maintenance import prepare_migration
from dbops.postgres.locks import is_held_here
from dbops.runner import awaited_lock


@contextmanager
def migrating_directly(
    alias: str, environment: str, context: OperationContext, *, writing: bool
) -> Iterator[None]:
    """Under the database's lock, after whoever has it; what was applied is journalled.

    Args:
        alias: by which Django knows the environment's database.

    Raises:
        LockedError: somebody still has it.
        PreflightError, StampError: see :func:`~dbops.operations.maintenance.prepare_migration`.
    """
    database = conf.database_params(environment)
    # Within an operation of this process, which holds the lock and journals what it does.
    within = is_held_here(database)
    if not writing or within:
        prepare_migration(database, environment, writing=writing)
        yield
        return
    prepare_migration(database, environment, writing=False)
    holder = f"manage.py migrate (process {os.getpid()})"
    with awaited_lock(Wanted(environment, database, True), holder, PATIENCE, context):
        prepare_migration(database, environment, writing=True)
        with noting(environment, context.actor), _by_default(alias):
            yield


@contextmanager
def _by_default(alias: str) -> Iterator[None]:
    """What a data migration writes without naming a database goes to the one that is migrated."""
    former = connections[DEFAULT_DB_ALIAS]
    connections[DEFAULT_DB_ALIAS] = connections[alias]
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS] = former
