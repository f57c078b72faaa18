"""The WSGI entry point."""

import logging
import os

from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

from skinspire.legible import LegibleRequest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skinspire.settings")
application = get_wsgi_application()
application.request_class = LegibleRequest

# A server does not run the system checks that manage.py runs; an open production must not start.
_found = run_checks(tags=[Tags.security])
_errors = [it for it in _found if it.is_serious()]
for _warning in _found:
    if _warning not in _errors:
        logging.getLogger("skinspire").warning("%s: %s", _warning.id, _warning.msg)
if _errors:
    raise ImproperlyConfigured("; ".join(f"{it.id}: {it.msg}" for it in _errors))
