"""The app that operates databases."""

from django.apps import AppConfig


class DbopsConfig(AppConfig):
    name = "dbops"
    verbose_name = "Databases"

    def ready(self) -> None:
        from dbops import checks  # noqa: F401  (registers the system checks)
