from django.apps import AppConfig


class VisitsConfig(AppConfig):
    name = "tests.visits"
    default_auto_field = "django.db.models.BigAutoField"
