"""The app that knows people."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People"

    def ready(self) -> None:
        from accounts import browser, changes, history  # noqa: F401  (they hear Django's signals)
