"""The settings of an installation with an application of its own. VISITS chooses further
migrations: modules of ``tests.visits``, each beginning with the common ones."""

import os

from skinspire.settings import *  # noqa: F403
from skinspire.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.visits"]
MIGRATION_MODULES = {"visits": os.environ.get("VISITS", "tests.visits.migrations")}
