"""The project itself: what has to hold for every connection and after every migration."""

from django.apps import AppConfig, apps
from django.contrib.admin import apps as admin
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class SkinspireConfig(AppConfig):
    name = "skinspire"

    def ready(self) -> None:
        from skinspire.acting import install_teller
        from skinspire.guarantees import install_guarantees

        connection_created.connect(install_teller, dispatch_uid="skinspire.acting")
        post_migrate.connect(
            install_guarantees,
            sender=apps.get_app_config("accounts"),
            dispatch_uid="skinspire.guarantees",
        )


class ConsoleConfig(admin.AdminConfig):
    default = False  # named in INSTALLED_APPS
    default_site = "skinspire.console.ConsoleSite"
