"""What the tests of migrations share: an installation with an application of its own."""

from __future__ import annotations

import os

from dbops.postgres.connection import execute, session
from dbops.postgres.databases import drop_database
from dbops.postgres.stamp import write_stamp
from tests.installation import Installation

COMMON = ["visits.0001_initial", "visits.0002_first_rows", "visits.0003_note_and_wide_weight"]
LAST = COMMON[-1]


def ready(installation: Installation, environment: str = "dev") -> Installation:
    """An environment as it was before this code got an application of its own."""
    _prepare(installation, environment, "ready")
    return with_visits(installation)


def migrated(installation: Installation, variant: str = "migrations") -> Installation:
    """dev has the common ones, and the code has gone on to the variant's."""
    _prepare(installation, "dev", "migrated")
    return with_visits(installation, variant)


def with_visits(installation: Installation, variant: str = "migrations") -> Installation:
    """The code has the application, and its variant's migrations."""
    installation.variables |= {
        "DJANGO_SETTINGS_MODULE": "tests.migrating_settings",
        "VISITS": f"tests.visits.{variant}",
    }
    return installation


def without_visits(installation: Installation) -> Installation:
    """The code as it is."""
    for name in ("DJANGO_SETTINGS_MODULE", "VISITS"):
        installation.variables.pop(name, None)
    return installation


def _prepare(installation: Installation, environment: str, what: str) -> None:
    """Made by our commands once a server, and copied from then on."""
    server, name = installation.server, installation.databases[environment].database
    template = f"{what}_{os.getpid()}"
    with session(server.params) as control, control.cursor() as cursor:
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [template])
        known = cursor.rowcount
    if not known:
        installation.result("init_db", "--env", "dev")
        if what == "migrated":
            with_visits(installation).result("apply_migration", "--env", "dev", "--no-backup")
            without_visits(installation)
        with session(server.params) as control:
            source = installation.databases["dev"].database
            execute(control, f"CREATE DATABASE {template} TEMPLATE {source}")
    with session(server.params) as control:
        drop_database(control, name)
        execute(control, f"CREATE DATABASE {name} TEMPLATE {template}")
    with session(installation.databases[environment]) as connection:
        write_stamp(connection, environment)


def state(installation: Installation, environment: str = "dev") -> tuple[object, ...]:
    """What Django holds to be applied of ours, the columns there are, and all rows; not where
    sequences stand, which no transaction takes back."""
    hashes = installation.hashes(environment)
    return (
        installation.sql(environment, """SELECT string_agg(name, ' ' ORDER BY id)
            FROM public.django_migrations WHERE app = 'visits'"""),
        installation.sql(environment, """SELECT string_agg(format('%s.%s', attrelid::regclass,
            attname), ' ' ORDER BY attrelid, attnum) FROM pg_attribute
            WHERE attrelid::regclass::text LIKE '%visits%' AND attnum > 0
              AND NOT attisdropped"""),
        {name: it for name, it in hashes.items() if not name.endswith("_seq")},
    )  # fmt: skip
