"""Migrations: all of what is pending or the database as it was, after a backup, told exactly."""

from __future__ import annotations

import pytest

from dbops.postgres.connection import execute, session
from tests.faults import ended, locks_held, wait_for
from tests.installation import Installation

COMMON = ["visits.0001_initial", "visits.0002_first_rows", "visits.0003_note_and_wide_weight"]


def ready(installation: Installation, environment: str = "dev") -> Installation:
    """An environment as it was before this code got an application of its own."""
    confirm = ("--confirm", environment) if environment == "prod" else ()
    installation.result("init_db", "--env", environment, *confirm)
    return with_visits(installation)


def with_visits(installation: Installation, variant: str = "migrations") -> Installation:
    installation.variables |= {
        "DJANGO_SETTINGS_MODULE": "tests.migrating_settings",
        "VISITS": f"tests.visits.{variant}",
    }
    return installation


def state(installation: Installation, environment: str = "dev") -> list[str]:
    """The tables and what Django holds to be applied of ours."""
    return [
        installation.sql(environment, "SELECT string_agg(name, ' ' ORDER BY id) FROM "
                         "django_migrations WHERE app = 'visits'"),
        installation.sql(environment, "SELECT string_agg(table_name || '.' || column_name, ' ' "
                         "ORDER BY 1) FROM information_schema.columns "
                         "WHERE table_name LIKE 'visits%'"),
    ]  # fmt: skip


def test_all_that_is_pending_in_one_transaction(installation: Installation) -> None:
    """Among them rows whose foreign keys are checked at the end, and then an ALTER TABLE."""
    ready(installation)
    answer = installation.run("apply_migration", "--env", "dev", "--json").json
    result = answer["result"]
    assert result["migrations"] == COMMON
    assert result["way"] == "together"
    assert answer["operation"]["kind"] == "migrate"
    assert installation.sql("dev", "SELECT count(*) FROM visits_visit") == 100
    assert installation.sql("dev", "SELECT count(*) FROM auth_permission WHERE codename = 'add_visit'") == 1
    assert installation.result("verify_triggers", "--env", "dev")["missing"] == []
    assert installation.sql("dev", "INSERT INTO visits_visit (ward_id, weight) SELECT id, 1 FROM visits_ward RETURNING created_at IS NOT NULL")
    backups = installation.result("listbackups", "-d", "dev")["backups"]
    assert [it["name"] for it in backups] == [result["saved_as"]]
    again = installation.result("apply_migration", "--env", "dev")
    assert (again["migrations"], again["saved_as"], again["way"]) == ([], None, None)
