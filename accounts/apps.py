"""The app that knows people."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People"

    def ready(self) -> None:
        from accounts import history  # noqa: F401  (records sign-ins by Django's signals)
