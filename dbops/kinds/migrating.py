"""Django's migrations, applied to a database that does not bear its environment's name yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management import CommandError, call_command
from django.core.management.commands.migrate import Command as DjangosMigrate
from django.db import DEFAULT_DB_ALIAS, connections
from django.db import Error as DatabaseLayerError
from django.db.utils import load_backend

from dbops import conf
from dbops.exceptions import StatementError
from dbops.postgres.params import ConnectionParams


def migrate_aside(environment: str, database: ConnectionParams) -> None:
    """Apply the migrations of ``environment`` to another database of its server.

    Raises:
        StatementError: one failed.
    """
    with pointed_at(environment, database.database):
        try:
            # Ours would ask for the environment's own database first.
            call_command(DjangosMigrate(), database=environment, interactive=False, verbosity=0)
        except (DatabaseLayerError, CommandError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StatementError(f"Migrating {environment} failed: {first}") from error


@contextmanager
def pointed_at(environment: str, name: str) -> Iterator[None]:
    """In this thread alone, let Django's connections of an environment lead to another database.

    Of the active environment ``default`` is led there too, so that a migration that forgets which
    alias it runs on, or asks ``django.db.connection``, does not write to the database in use.
    Connections are the thread's own, so other threads of a worker or a console notice nothing.
    """
    aliases = [environment]
    if environment == conf.active_environment():
        aliases.append(DEFAULT_DB_ALIAS)
    before = {alias: connections[alias] for alias in aliases}
    for alias, connection in before.items():
        connection.close()
        settings = {**connection.settings_dict, "NAME": name}
        connections[alias] = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)
    try:
        yield
    finally:
        for alias, connection in before.items():
            connections[alias].close()
            connections[alias] = connection
