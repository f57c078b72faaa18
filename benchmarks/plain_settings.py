"""django-dbbackup as it ships, for comparison: its own command and settings, nothing of ours."""

import os

import environ

SECRET_KEY = "benchmark"
INSTALLED_APPS = ["dbbackup"]
DATABASES = {"default": environ.Env.db_url_config(os.environ["BENCH_URL"])}
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "dbbackup": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": os.environ["BENCH_STORE"]},
    },
}
