"""The project's settings, with the paths of the benchmark beside its own."""

from skinspire.settings import *  # noqa: F403

ROOT_URLCONF = "auth_urls"
