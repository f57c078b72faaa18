"""System checks: what is wrong with the configuration, and the next command to mend it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DEFAULT_DB_ALIAS, connection, router

from dbops.backups.encryption import MAKE_KEY_PAIR, check_keys
from dbops.conf import encryption_keys, masking_key, masking_rules
from dbops.exceptions import ConfigurationError, MaskingError
from dbops.masking.rules import Rules
from dbops.masking.safety import is_safe
from dbops.postgres.stamp import SCHEMA
from dbops.postgres.triggers import HistoryRule
from skinspire import variables
from skinspire.databases import EMBEDDED
from skinspire.environment import ENVIRONMENTS
from skinspire.findings import findings
from skinspire.masked import place_of
from skinspire.router import CONTROL

_HINTS = {
    "dbops.E001": "Set SKINSPIRE_ENV (or DJANGO_ENV) to dev, test or prod.",
    "dbops.E002": "Write it as postgresql://user:password@host:5432/database; "
    "percent-encode special characters of the password.",
    "dbops.E003": "Check the *_FILE variables in the environment and in .env.",
    "dbops.E007": "Mend that line; .env.example shows how lines are written.",
    "dbops.W007": "Write one NAME=value a line, in UTF-8, with plain line ends.",
    "dbops.E008": "Remove one of the two.",
    "dbops.E009": "chmod 600 .env, and change the secrets others may have read.",
    "dbops.W009": "chmod 600 it, unless what lies around it keeps others out.",
    "dbops.W014": "Rename or remove it; every variable: docs/environments.md.",
    "dbops.E016": "Give the account that runs Skinspire a directory of its own: SKINSPIRE_HOME.",
    "dbops.E006": "Credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; "
    "see .env.example.",
}
_WEAK_MARKS = ("django-insecure", "changeme", "secret", "password", "example")
_SHORTEST_KEY = 50  # Django's own measure (security.W009)
_FEWEST_CHARACTERS = 5


@register(Tags.security)
def check_configuration(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E001–E003, E006–E009, W014: the settings, or files they come from, are not in order."""
    told = [(it.id, it.sentence) for it in findings]
    if settings.CONFIGURATION_ERROR and settings.CONFIGURATION_ERROR not in told:
        told.append(settings.CONFIGURATION_ERROR)
    return [
        (Error if ".E" in identifier else Warning)(sentence, hint=_HINTS[identifier], id=identifier)
        for identifier, sentence in told
    ]


@register(Tags.security)
def check_variables(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E004: a variable holds a word that means nothing."""
    hint = "Mend it in the environment or in .env; see .env.example."
    return [Error(sentence, hint=hint, id="dbops.E004") for sentence in variables.problems]


@register(Tags.security)
def check_roles(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E005: a role that bears the name of our schema."""
    # PostgreSQL's default search_path begins with "$user": with such a role every table Django
    # makes would land in our schema, which backups' counts and triggers leave out.
    named_alike = sorted(
        alias for alias, database in settings.DATABASES.items() if database.get("USER") == SCHEMA
    )
    return [
        Error(
            f"The role of {alias} is called {SCHEMA}, like the schema Skinspire keeps for itself.",
            hint="Connect as a role of another name.", id="dbops.E005",
        )
        for alias in named_alike
    ]  # fmt: skip


@register(Tags.security)
def check_one_database_each(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E015: two URLs that lead to one database by their words. One database under two names
    is found by its identity, when it matters."""
    if settings.CONFIGURATION_ERROR:
        return []
    by_place: dict[str, list[str]] = {}
    for name in (*ENVIRONMENTS, CONTROL):
        if url := variables.env.read.get(f"{name.upper()}_DATABASE_URL"):
            by_place.setdefault(place_of(url), []).append(name)
    return [
        Error(
            f"The URLs of {' and '.join(aliases)} lead to one and the same database.",
            hint="Give each a database of its own: what one replaces, the others would lose.",
            id="dbops.E015",
        )
        for aliases in by_place.values()
        if len(aliases) > 1
    ]


@register(Tags.security)
def check_home(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E016: nothing can be kept."""
    home = Path(settings.SKINSPIRE_HOME)
    there = next((path for path in (home, *home.parents) if path.exists()), home)
    known = settings.CONFIGURATION_ERROR and settings.CONFIGURATION_ERROR[0] == "dbops.E016"
    if known or (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return []
    sentence = "SKINSPIRE_HOME cannot be written by this account."
    return [Error(sentence, hint=_HINTS["dbops.E016"], id="dbops.E016")]


@register(Tags.security)
def check_production(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E010–E013: a production that would be open to anyone."""
    if settings.ENVIRONMENT.name != "prod" or settings.CONFIGURATION_ERROR:
        return []
    found: list[CheckMessage] = []
    if settings.DEBUG:
        found.append(Error(
            "DEBUG is on in production: error pages would show settings and patient data.",
            hint="Remove DEBUG from the environment and from .env.", id="dbops.E010",
        ))  # fmt: skip
    if settings.SECRET_KEY_IS_PASSING or is_weak(str(settings.SECRET_KEY)):
        found.append(Error(
            "SECRET_KEY is missing or weak: sessions, tokens and backups could be forged.",
            hint="python -c 'import secrets; print(secrets.token_urlsafe(48))' makes a good one.",
            id="dbops.E011",
        ))  # fmt: skip
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        found.append(Error(
            "ALLOWED_HOSTS is empty or allows every host in production.",
            hint="Set ALLOWED_HOSTS=db.example.org to the console's own name.", id="dbops.E012",
        ))  # fmt: skip
    if settings.DATABASES["prod"].get(EMBEDDED):
        found.append(Error(
            "Production would run on the embedded server, which has no TLS and no backup of "
            "its own.",
            hint="Set PROD_DATABASE_URL to the production server.", id="dbops.E013",
        ))  # fmt: skip
    return found


@register(Tags.security)
def check_encryption(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.W020, E021: backups that anyone could read, or a key that is none."""
    keys = encryption_keys()
    try:
        check_keys(keys)
    except ConfigurationError as error:
        return [Error(str(error), hint=error.hint, id="dbops.E021")]
    if settings.ENVIRONMENT.name != "prod" or settings.CONFIGURATION_ERROR or keys.can_encrypt:
        return []
    return [
        Warning(
            "Backups of production are not encrypted: whoever reads the storage reads every row.",
            hint=f"Make a key pair on another machine: {MAKE_KEY_PAIR} and set BACKUP_RECIPIENTS "
            "to what it prints; .env.example says more.",
            id="dbops.W020",
        )
    ]


@register(Tags.security)
def check_row_history(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E040: a wish for row history that names no tables."""
    wishes = settings.DBOPS_ROW_HISTORY
    if isinstance(wishes, str) or not isinstance(wishes, Iterable):
        return [Error(
            "DBOPS_ROW_HISTORY is no list of tables.",
            hint="Write it as a tuple: ('clinic.patients: notes', 'billing.*')", id="dbops.E040",
        )]  # fmt: skip
    found: list[CheckMessage] = []
    for wish in wishes:
        try:
            HistoryRule.parse(wish)
        except ConfigurationError as error:
            found.append(Error(str(error), hint=error.hint, id="dbops.E040"))
    return found


@register(Tags.models)
def check_masking(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """dbops.E030, W030: masking rules that mean nothing, or a model's field without one."""
    try:
        masking_key()
        rules = masking_rules()
    except (MaskingError, ConfigurationError) as error:
        return [Error(str(error), hint=error.hint, id="dbops.E030")]
    found: list[CheckMessage] = []
    for model in apps.get_models(include_auto_created=True):
        fields = _uncovered_fields(model, rules)
        if fields:
            found.append(Warning(
                f"No masking rule covers {', '.join(fields)} of {model._meta.db_table}: a copy "
                "out of production would stop there.",
                hint="Add rules: python manage.py masking --suggest", obj=model, id="dbops.W030",
            ))  # fmt: skip
    return found


def _uncovered_fields(model: Any, rules: Rules) -> list[str]:
    """Columns of a model's table, in the managed databases and PostgreSQL's default schema."""
    meta, table = model._meta, f"public.{model._meta.db_table}"
    elsewhere = not router.allow_migrate_model(DEFAULT_DB_ALIAS, model)
    if elsewhere or not meta.managed or meta.proxy or meta.swapped or rules.leaves_out(table):
        return []
    return [
        field.column
        for field in meta.local_concrete_fields
        if not (
            field.generated
            or rules.rule(table, field.column)
            or _is_safe_field(field)
            or rules.considers_safe(table, field.column, field.db_type(connection) or "")
        )
    ]


def _is_safe_field(field: Any) -> bool:
    places = getattr(field, "decimal_places", None)
    return is_safe(
        field.column,
        field.db_type(connection) or "",
        key=field.primary_key or field.is_relation,
        fraction=bool(places),
    )


def is_weak(key: str) -> bool:
    """True for a key that could be guessed: short, monotonous, or known from examples."""
    lowered = key.lower()
    return (
        len(key) < _SHORTEST_KEY
        or len(set(key)) < _FEWEST_CHARACTERS
        or any(lowered.startswith(mark) for mark in _WEAK_MARKS)
    )
