"""The WSGI entry point."""

import os

from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skinspire.settings")
application = get_wsgi_application()

# A server does not run the system checks that manage.py runs; an open production must not start.
_errors = [it for it in run_checks(tags=[Tags.security]) if it.is_serious()]
if _errors:
    raise ImproperlyConfigured("; ".join(f"{it.id}: {it.msg}" for it in _errors))
