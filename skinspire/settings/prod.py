"""Production: nothing is guessed; what is missing is reported by the system checks."""

from skinspire.settings.base import SKINSPIRE_HOME, env
from skinspire.variables import read_flag, read_list

DEBUG = read_flag(env, "DEBUG", False)
ALLOWED_HOSTS = read_list(env, "ALLOWED_HOSTS", [])
STATIC_ROOT = SKINSPIRE_HOME / "static"  # filled by collectstatic; elsewhere found in place
# Browsers take these by TLS from this very host alone, and give them to no other.
SESSION_COOKIE_NAME = "__Host-skinspire_prod_session"
CSRF_COOKIE_NAME = "__Host-skinspire_prod_csrf"
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_SSL_REDIRECT = read_flag(env, "SECURE_SSL_REDIRECT", True)
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz)$"]  # asked from beside, behind what speaks TLS
SECURE_HSTS_SECONDS = 31_536_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
