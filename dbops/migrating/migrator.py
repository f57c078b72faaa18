"""Django's migrations for the operations below, which know no Django.

A migration runs on a connection of its own, opened for one run and with settings of ours. While it
runs, ``default`` leads there as well: what a data migration writes without naming a database must
reach the one that is migrated, or the copy it is rehearsed on, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db import Error as DatabaseLayerError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.exceptions import (
    BadMigrationError,
    CircularDependencyError,
    InconsistentMigrationHistory,
    NodeNotFoundError,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations import SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.utils.module_loading import module_has_submodule

from dbops.exceptions import MigrationError, StatementError
from dbops.operations.migration_run import Run, Step
from dbops.postgres.connection import apply_settings, our_settings
from dbops.postgres.footprint import check_deferred
from dbops.postgres.params import ConnectionParams
from dbops.wording import counted

_UNREADABLE = (
    ImportError, SyntaxError, BadMigrationError, CircularDependencyError, NodeNotFoundError,
    InconsistentMigrationHistory,
)  # fmt: skip
# A migration goes by the database's own search_path and row security, like any code of the users'.
_THEIRS = {"search_path", "row_security"}


class DjangoMigrator:
    """The migrations of this code, for one environment's database or a copy of it."""

    def __init__(self, environment: str, *, undo: int = 0) -> None:
        """``undo``: how many of the latest to undo; 0 applies what is pending."""
        self._environment = environment
        self._undo = undo

    def plan(self, database: ConnectionParams) -> tuple[Step, ...]:
        """See :class:`~dbops.operations.migration_run.Migrator`."""
        try:
            plan = self._plan(database)
        except _UNREADABLE as error:
            raise MigrationError(
                f"The migrations of this code cannot be planned: {_first_line(error)}.",
                hint="See more: python manage.py migrate --plan",
            ) from error
        except DatabaseLayerError as error:
            raise StatementError(
                f"What is applied in {self._environment} cannot be read: {_first_line(error)}."
            ) from error
        return tuple(_step(migration, backwards) for migration, backwards in plan)

    def _plan(self, database: ConnectionParams) -> list[tuple[Migration, bool]]:
        with _connected(self._environment, database) as connection:
            executor = MigrationExecutor(connection)
            require_one_leaf(executor.loader)
            executor.loader.check_consistent_history(connection)
            if self._undo:
                return self._latest(executor)
            return executor.migration_plan(executor.loader.graph.leaf_nodes())

    def _latest(self, executor: MigrationExecutor) -> list[tuple[Migration, bool]]:
        """The latest that were applied, each after what depends on it."""
        graph, recorder = executor.loader.graph, executor.recorder
        if not recorder.has_table():
            return []
        order = recorder.migration_qs.order_by("-id").values_list("app", "name")
        applied = [key for key in order if key in graph.nodes and self._lives_here(key[0])]
        if self._undo > len(applied):
            there = counted(len(applied), "migration is", "migrations are")
            raise MigrationError(
                f"Only {there} applied in {self._environment}, not {self._undo}.",
                hint=f"See them: python manage.py show_migrations --env {self._environment}",
            )
        waiting, plan = set(applied), []
        for chosen in applied[: self._undo]:
            for key in graph.backwards_plan(chosen):
                if key in waiting:
                    waiting.remove(key)
                    plan.append((graph.nodes[key], True))
        return plan

    def _lives_here(self, app: str) -> bool:
        return bool(router.allow_migrate(self._environment, app))

    def run(self, database: ConnectionParams, steps: Sequence[Step], how: Run) -> None:
        """See :class:`~dbops.operations.migration_run.Migrator`."""
        with _connected(self._environment, database, how) as connection:
            how.started(connection.connection)
            executor = _Executor(connection, how)
            nodes = {_label(node): node for node in executor.loader.graph.nodes.values()}
            plan = [(nodes[step.label], step.backwards) for step in steps]
            with _whole(connection, how.together):
                _go(executor, plan, how)
                how.finish(connection.connection)


class _Executor(MigrationExecutor):
    """Django's, with each migration in a transaction that can be looked at before it ends."""

    def __init__(self, connection: BaseDatabaseWrapper, how: Run) -> None:
        super().__init__(connection)
        self._how = how

    def apply_migration(
        self, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any
    ) -> ProjectState:
        with self._watched(_step(migration, backwards=False)):
            return super().apply_migration(state, migration, *args, **kwargs)

    def unapply_migration(
        self, state: ProjectState, migration: Migration, *args: Any, **kwargs: Any
    ) -> ProjectState:
        with self._watched(_step(migration, backwards=True)):
            return super().unapply_migration(state, migration, *args, **kwargs)

    @contextmanager
    def _watched(self, step: Step) -> Iterator[None]:
        with _whole(self.connection, step.atomic):
            self._how.before(self.connection.connection, step)
            yield
            if step.atomic:
                check_deferred(self.connection.connection)
            self._how.after(self.connection.connection, step)


def _go(executor: _Executor, plan: list[tuple[Migration, bool]], how: Run) -> None:
    """As Django's command does it: signals around, with the models as they were and as they are."""
    if not how.announce:
        executor.migrate([], plan=plan)
        return
    alias = executor.connection.alias
    for config in apps.get_app_configs():
        if module_has_submodule(config.module, "management"):
            import_module(".management", config.name)
    # Ids of content types are another database's, where one was migrated before.
    ContentType.objects.clear_cache()
    before = executor.migrate([], plan=[])  # the models as they are applied
    emit_pre_migrate_signal(0, False, alias, apps=before.apps, plan=plan)
    forwards = not plan[0][1]
    after = executor.migrate([], plan=plan, state=before.clone() if forwards else None)
    after.clear_delayed_apps_cache()
    models = after.apps
    with models.bulk_update():
        real = [(it.app_label, it.name_lower) for it in models.real_models]
        for key in real:
            models.unregister_model(*key)
    models.render_multiple([ModelState.from_model(apps.get_model(*key)) for key in real])
    emit_post_migrate_signal(0, False, alias, apps=models, plan=plan)
    ContentType.objects.clear_cache()


@contextmanager
def _connected(
    environment: str, database: ConnectionParams, how: Run | None = None
) -> Iterator[BaseDatabaseWrapper]:
    """A connection that Django takes for the environment's and for its default one.

    Connections are the thread's own, so other threads of a worker or a console notice nothing.
    """
    aliases = (environment, DEFAULT_DB_ALIAS)
    before = {alias: connections[alias] for alias in aliases}
    wrapper = connections.create_connection(environment)
    wrapper.settings_dict = {
        **wrapper.settings_dict,
        "NAME": database.database, "HOST": database.host, "PORT": str(database.port),
        "USER": database.user, "PASSWORD": database.password,
    }  # fmt: skip
    for alias in aliases:
        connections[alias] = wrapper
    try:
        wrapper.ensure_connection()
        _set_up(wrapper, how)
        with wrapper.execute_wrapper(_heeding(how)) if how else nullcontext():
            yield wrapper
    finally:
        wrapper.close()
        for alias, connection in before.items():
            connections[alias] = connection


def _set_up(wrapper: BaseDatabaseWrapper, how: Run | None) -> None:
    raw = wrapper.connection
    ours = our_settings(raw.server_version)
    settings = {name: value for name, value in ours.items() if name not in _THEIRS}
    if how:
        settings["lock_timeout"] = f"{round(how.lock_timeout * 1000)}ms"
        settings["application_name"] = how.context.application
        settings["skinspire.actor"] = how.context.actor
    apply_settings(raw, settings)


def _heeding(how: Run) -> Any:
    """Before every statement of a migration, look whether it is to stop."""

    def execute(run: Any, sql: str, params: Any, many: bool, context: Mapping[str, Any]) -> Any:
        how.context.check_cancelled()
        return run(sql, params, many, context)

    return execute


def _whole(connection: BaseDatabaseWrapper, wanted: bool) -> AbstractContextManager[None]:
    return transaction.atomic(using=connection.alias) if wanted else nullcontext()


def require_one_leaf(loader: MigrationLoader) -> None:
    """Raise MigrationError where an application has several latest migrations: named."""
    conflicts = loader.detect_conflicts()
    if conflicts:
        several = "; ".join(f"{app}: {', '.join(sorted(conflicts[app]))}" for app in conflicts)
        raise MigrationError(
            f"There are several latest migrations ({several}).",
            hint="Join them: python manage.py makemigrations --merge",
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _label(migration: Migration) -> str:
    return f"{migration.app_label}.{migration.name}"


def _step(migration: Migration, backwards: bool) -> Step:
    stuck = next(filter(None, map(_irreversible, migration.operations)), "")
    return Step(_label(migration), backwards, bool(migration.atomic), stuck)


def _irreversible(operation: Operation) -> str:
    """The operation, or the one within it, that cannot be undone; "" where it can."""
    if isinstance(operation, SeparateDatabaseAndState):
        return next(filter(None, map(_irreversible, operation.database_operations)), "")
    return "" if operation.reversible else str(operation.describe())
