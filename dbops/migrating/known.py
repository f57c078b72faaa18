"""The migrations this code has, without asking any database."""

from __future__ import annotations

from collections.abc import Collection

from django.apps import apps
from django.db import router
from django.db.migrations.loader import MigrationLoader


def known_migrations(environment: str) -> dict[str, tuple[str, ...]]:
    """ "app.name" of each that concerns an environment's database, in an order in which they can be
    applied, and which others each replaces."""
    loader = MigrationLoader(None)
    graph = loader.graph
    order = [key for leaf in graph.leaf_nodes() for key in graph.forwards_plan(leaf)]
    return {
        f"{app}.{name}": tuple(".".join(it) for it in graph.nodes[app, name].replaces)
        for app, name in dict.fromkeys(order)
        if router.allow_migrate(environment, app)
    }


def apps_elsewhere(environment: str) -> frozenset[str]:
    """Applications of this code whose tables are not in an environment's database."""
    labels = {config.label for config in apps.get_app_configs()}
    return frozenset(it for it in labels if not router.allow_migrate(environment, it))


def unknown_migrations(recorded: Collection[str]) -> list[str]:
    """Those recorded of this code's applications that it does not have: it is older, or went
    another way. Of an application it does not have, nothing is judged."""
    loader = MigrationLoader(None)
    ours = {".".join(key) for key in loader.disk_migrations}
    ours |= {
        ".".join(it) for migration in loader.disk_migrations.values() for it in migration.replaces
    }
    return [it for it in recorded if it not in ours and it.split(".")[0] in loader.migrated_apps]


def missing_migrations(recorded: Collection[str], environment: str) -> list[str]:
    """Those of an environment that are not recorded; a squashed one counts as recorded once all it
    replaces are."""
    return [
        label
        for label, replaced in known_migrations(environment).items()
        if label not in recorded and not (replaced and set(replaced) <= set(recorded))
    ]


def pending_migrations(recorded: Collection[str], environment: str) -> list[str]:
    """:func:`missing_migrations`; none where Django never recorded any."""
    return missing_migrations(recorded, environment) if recorded else []
