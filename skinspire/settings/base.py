"""What all environments share. Values come from the process, then from ``.env``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from csp.constants import NONE, SELF

from dbops.exceptions import ConfigurationError
from skinspire.databases import (
    EnvironmentUrls,
    MalformedUrl,
    console_databases,
    control_database,
    environment_databases,
)
from skinspire.environment import (
    ENVIRONMENTS,
    ActiveEnvironment,
    UnknownEnvironment,
    discover_environment,
)
from skinspire.findings import Finding, findings, first_blocking, is_too_open
from skinspire.storage import MalformedStorageUrl, backup_storage
from skinspire.variables import (
    env,
    kept_secret,
    known_secret,
    mail_settings,
    read_counts,
    read_flag,
    read_list,
    read_networks,
    read_number,
    read_secret,
    read_text,
    read_word,
    split_list,
)

BASE_DIR = Path(__file__).resolve().parents[2]
env.load(BASE_DIR / ".env")

SKINSPIRE_HOME = Path(read_text(env, "SKINSPIRE_HOME") or BASE_DIR / "var").absolute()

CONFIGURATION_ERROR: tuple[str, str] | None = None
"""(check id, sentence): reported by the system checks; until mended no database is known."""
ENVIRONMENT = ActiveEnvironment("unknown", "")
DATABASES: dict[str, dict[str, Any]] = {"default": {"ENGINE": "django.db.backends.dummy"}}
_URLS = {
    name: EnvironmentUrls(
        database=read_secret(env, f"{name.upper()}_DATABASE_URL"),
        pool=read_secret(env, f"{name.upper()}_POOL_URL"),
        replica=read_secret(env, f"{name.upper()}_REPLICA_URL"),
    )
    for name in ENVIRONMENTS
}
_CONTROL_URL = read_secret(env, "CONTROL_DATABASE_URL")
try:
    if not (CONFIGURATION_ERROR := first_blocking()):
        # Also where the environment is unknown: switch_env mends that, and records that it did.
        DATABASES["control"] = control_database(_CONTROL_URL, SKINSPIRE_HOME)
        DATABASES |= environment_databases(_URLS, SKINSPIRE_HOME)
    ENVIRONMENT = discover_environment(SKINSPIRE_HOME, env.ENVIRON)
    if not CONFIGURATION_ERROR:
        _name = ENVIRONMENT.name
        DATABASES |= console_databases(DATABASES[_name], _name, _URLS[_name].pool)
except UnknownEnvironment as error:
    CONFIGURATION_ERROR = CONFIGURATION_ERROR or ("dbops.E001", str(error))
except MalformedUrl as error:
    CONFIGURATION_ERROR = ("dbops.E002", str(error))
except (OSError, UnicodeDecodeError, ConfigurationError) as error:
    CONFIGURATION_ERROR = ("dbops.E003", f"A file of settings cannot be read: {error}")
DATABASE_ROUTERS = ["skinspire.router.ControlRouter"]
if env.file and is_too_open(env.file):
    findings.append(
        Finding(
            "dbops.E009" if ENVIRONMENT.name == "prod" else "dbops.W009",
            "The .env may be read or written by others than its owner.",
        )
    )

SECRET_KEY = read_secret(env, "SECRET_KEY")
SECRET_KEY_IS_PASSING = not SECRET_KEY and ENVIRONMENT.name == "prod"
"""Production without a key: one for this process alone, so that the checks can say so."""
if not SECRET_KEY and not SECRET_KEY_IS_PASSING:
    try:
        SECRET_KEY = kept_secret(SKINSPIRE_HOME / "secret_key")
    except OSError as error:
        _sentence = f"SKINSPIRE_HOME cannot be written: {error.strerror}."
        CONFIGURATION_ERROR = CONFIGURATION_ERROR or ("dbops.E016", _sentence)
# The checks let nothing run with a passing key but switch_env, whose entry in the journal has to
# be signed as the others are.
SECRET_KEY = SECRET_KEY or known_secret(SKINSPIRE_HOME / "secret_key") or token_urlsafe(48)
SECRET_KEY_FALLBACKS = split_list(read_secret(env, "SECRET_KEY_FALLBACKS"))

INSTALLED_APPS = [
    "skinspire",
    "django_otp",
    "django_otp.plugins.otp_totp",  # before accounts, which takes its secrets out of the admin
    "accounts",
    "dbops",  # before dbbackup and django_tasks_db: its commands replace theirs
    "dbbackup",
    "django_tasks",
    "django_tasks_db",
    "skinspire.apps.ConsoleConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework_simplejwt",
    "axes",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "skinspire.headers.HeadersMiddleware",
    "skinspire.probes.ProbeMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "skinspire.legible.LegibleMiddleware",
    "skinspire.outage.OutageMiddleware",  # outside everything below: all of it asks a database
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "accounts.middleware.BrowserSessionMiddleware",  # may sign out, and says why
    "accounts.middleware.ActingUserMiddleware",
    "accounts.middleware.ProofMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "skinspire.urls"
WSGI_APPLICATION = "skinspire.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "skinspire.context_processors.environment",
            ],
        },
    }
]

AUTH_USER_MODEL = "accounts.User"
# As NIST SP 800-63B has it: long, not on the list of those everybody tries, and of any characters.
AUTH_PASSWORD_VALIDATORS: list[dict[str, Any]] = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
     "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "accounts.password_rules.GuessablePasswordValidator"},
]  # fmt: skip
PASSWORD_HASHERS = [
    "accounts.hashers.OwaspArgon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
ACCOUNT_LOCK_AFTER = read_number(env, "ACCOUNT_LOCK_AFTER", 100)
"""Failed sign-ins in a row that lock an account; 0: none do. The database keeps this rule and the
next two: after a change run migrate, or apply_triggers."""
ACCOUNT_LOCK_MINUTES = read_number(env, "ACCOUNT_LOCK_MINUTES", 15)
ACCOUNT_SESSION_LIMIT = read_number(env, "ACCOUNT_SESSION_LIMIT", 5)
"""Sessions an account may have at once, of both doors; the oldest end. 0: any number."""
ACCOUNT_IDLE_MINUTES = read_number(env, "ACCOUNT_IDLE_MINUTES", 30)
"""A browser left alone for so long is signed out; 0: never."""
ACCOUNT_ABSOLUTE_HOURS = read_number(env, "ACCOUNT_ABSOLUTE_HOURS", 12) or 12
"""After which a browser's session is over, however busy."""
ACCOUNT_REMEMBER_DAYS = read_number(env, "ACCOUNT_REMEMBER_DAYS", 14)
"""The same where somebody ticked to stay signed in; 0: nobody may."""
ACCOUNT_FRESH_MINUTES = read_number(env, "ACCOUNT_FRESH_MINUTES", 15) or 15
"""For how long a sign-in counts as recent."""
ACCOUNT_FRESH_VIEWS = frozenset(
    {
        *(f"admin:dbops_operation_{it}" for it in ("restore", "copy", "triggers", "undo")),
        "admin:dbops_backup_download",
        "admin:accounts_user_add",
        "admin:accounts_user_change",
        "admin:accounts_user_delete",
        "admin:auth_user_password_change",
        "admin:accounts_invitation_add",
        "admin:auth_group_add",
        "admin:auth_group_change",
        "admin:auth_group_delete",
        *(f"accounts:second_factor_{it}" for it in ("begin", "set_up", "codes", "remove")),
    }
)
"""Views that need a recent one: what replaces databases, and what decides who gets in."""
ACCOUNT_FRESH_FORMS = frozenset({"admin:accounts_user_changelist", "admin:auth_group_changelist"})
"""Views that need one for what is sent to them, not for looking."""
ACCOUNT_REGISTRATION = read_word(env, "ACCOUNT_REGISTRATION", ("invitation", "off", "open"))
ACCOUNT_INVITATION_DAYS = read_number(env, "ACCOUNT_INVITATION_DAYS", 7) or 7
ACCOUNT_SECOND_FACTOR = read_list(
    env,
    "ACCOUNT_SECOND_FACTOR",
    ["operator", "administrator"] if ENVIRONMENT.name == "prod" else [],
)
"""Roles that need a second factor; where there are any, whoever may change prod does, too.
"none": nobody does."""
ACCOUNT_SECOND_FACTOR_DEEDS = tuple(
    f"dbops.{it}" for it in ("restore", "copy", "apply_triggers", "migrate", "maintain")
)
"""Permissions that change a database."""
if ACCOUNT_SECOND_FACTOR == ["none"]:
    ACCOUNT_SECOND_FACTOR = []
OTP_TOTP_ISSUER = f"Skinspire {ENVIRONMENT.name}"
OTP_ADMIN_HIDE_SENSITIVE_DATA = True
PASSWORD_RESET_TIMEOUT = 3600
globals().update(
    mail_settings(env, "dummymail://" if ENVIRONMENT.name == "prod" else "consolemail://")
)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = (
    read_text(env, "EMAIL_FROM") or "Skinspire <skinspire@localhost>"
)
AUTHENTICATION_BACKENDS = ["accounts.backends.LockingBackend"]
# Who guesses, and from where.
ACCOUNT_GUESSES = read_counts(env, "ACCOUNT_GUESSES", {"pair": 5, "user": 20, "address": 50})
"""Guesses that are answered in ACCOUNT_LOCK_MINUTES at one name from one address (pair), or from
one address; and in four times as many minutes at one name (user). 0: any number."""
TRUSTED_PROXIES = read_networks(env, "TRUSTED_PROXIES", [])
"""Whose X-Forwarded-For is believed; unix: who comes by a socket of the file system."""
AXES_HANDLER = "accounts.limits.GuessHandler"
AXES_CLIENT_IP_CALLABLE = "accounts.addresses.client_address"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = ACCOUNT_GUESSES["pair"]
AXES_COOLOFF_TIME = timedelta(minutes=ACCOUNT_LOCK_MINUTES)
AXES_DISABLE_ACCESS_LOG = True  # accounts.AccountEvent is the history
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
LOGIN_URL = "accounts:login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "accounts:login"
# Consoles of several environments on one host must not sign each other's people out.
SESSION_COOKIE_NAME = f"skinspire_{ENVIRONMENT.name}_session"
CSRF_COOKIE_NAME = f"skinspire_{ENVIRONMENT.name}_csrf"
CSRF_COOKIE_HTTPONLY = True  # forms bear the token; no script asks for it
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = ACCOUNT_ABSOLUTE_HOURS * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.ActingJWTAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["skinspire.bounds.BoundedJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "skinspire.bounds.BoundedNegotiation",
    "DEFAULT_THROTTLE_CLASSES": ["accounts.throttles.SharedThrottle"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "skinspire.api.problem_of",
    "URL_FORMAT_OVERRIDE": None,
}
ACCOUNT_REFRESH_HOURS = read_number(env, "ACCOUNT_REFRESH_HOURS", 12)
"""How long a program stays signed in, by refresh tokens."""
ACCOUNT_REFRESH_GRACE_SECONDS = read_number(env, "ACCOUNT_REFRESH_GRACE_SECONDS", 5)
"""How long a refresh token may be used again after its first use, by requests under way."""
API_LIMITS = read_counts(env, "API_LIMITS", {"sign-in": 30, "open": 600, "signed-in": 1200})
"""Requests a minute: sign-ins and other open endpoints for each address, and for each user."""
API_LONGEST_BODY = 1 << 20
"""Bytes."""
SIMPLE_JWT = {  # accounts/tokens.py signs and verifies
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=5),
    "REFRESH_TOKEN_LIFETIME": timedelta(hours=ACCOUNT_REFRESH_HOURS),
    "ALGORITHM": "HS256",
    "AUTH_TOKEN_CLASSES": ["accounts.tokens.SessionAccessToken"],
    "USER_ID_CLAIM": "sub",
    # Environments may share a SECRET_KEY; user 1 of dev is not user 1 of prod.
    "ISSUER": "skinspire",
    "AUDIENCE": f"skinspire-{ENVIRONMENT.name}",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Skinspire",
    "DESCRIPTION": "Sign programs in, and see and end the sessions of an account.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": "/api/[a-z]+",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": False, "validatorUrl": None},
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "skinspire.api.add_problems",
    ],
}

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
try:
    STORAGES["dbbackup"] = backup_storage(env, SKINSPIRE_HOME)
except MalformedStorageUrl as error:
    CONFIGURATION_ERROR = CONFIGURATION_ERROR or ("dbops.E006", str(error))
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

BACKUP_RECIPIENTS = read_list(env, "BACKUP_RECIPIENTS", [])
"""Public keys that new backups are encrypted for, by age."""
# Error pages hide what SECRET or PASS names.
BACKUP_SECRET_IDENTITY = read_secret(env, "BACKUP_IDENTITY")
BACKUP_GPG_PASSPHRASE = read_secret(env, "BACKUP_GPG_PASSPHRASE")
MASKING_KEY = read_secret(env, "MASKING_KEY")
"""Draws the false values of masked copies; "" where SECRET_KEY does."""
CONFIGURATION_ERROR = CONFIGURATION_ERROR or first_blocking()
DBBACKUP_GPG_RECIPIENT = read_text(env, "DBBACKUP_GPG_RECIPIENT")
DBBACKUP_GPG_ALWAYS_TRUST = read_flag(env, "DBBACKUP_GPG_ALWAYS_TRUST", False)
GNUPGHOME = read_text(env, "GNUPGHOME")

DBOPS_PROTECTED = ("prod",)
"""Environments whose name must be typed before they are written."""
DBOPS_ALLOW_COPY_TO_PROD = read_flag(env, "DBOPS_ALLOW_COPY_TO_PROD", False)
DBOPS_ALLOW_UNMASKED = read_flag(env, "DBOPS_ALLOW_UNMASKED", True)
"""Whether --no-mask may take a protected environment's rows elsewhere as they are."""
DBOPS_SESSIONS = ("accounts_session*",)
"""Our own, which are emptied also where a backup comes home, or a replaced database is put back:
nobody who was thrown out meanwhile is in again."""
DBOPS_DEFUSE = (
    *DBOPS_SESSIONS,
    "django_session",
    "axes_*",
    "accounts_invitation*",
    "accounts_recoverycode",
    "otp_*",
    "accounts_requestcount",
    "token_blacklist_*",
    "authtoken_token",
    "knox_authtoken",
    "oauth2_provider_accesstoken",
    "oauth2_provider_refreshtoken",
    "django_tasks_db_*",
    "django_q_ormq",
    "procrastinate_jobs",
    "post_office_*",
    "mailer_message",
    *read_list(env, "DBOPS_DEFUSE", []),
)
"""Tables emptied in a copy for another environment: sessions, tokens, jobs about to run."""
DBOPS_ROW_HISTORY = tuple(read_list(env, "DBOPS_ROW_HISTORY", []))
"""Tables whose rows' history is kept: names or patterns, each with columns to be left out after a
colon ("clinic.patients: notes"). Passwords, tokens and the like are left out by their names."""
DBOPS_EVENT_TRIGGER = read_flag(env, "DBOPS_EVENT_TRIGGER", False)
"""Whether tables made later get their triggers at once; it takes a superuser to see to that."""
DBOPS_KEEP_PREVIOUS_DAYS = read_number(env, "DBOPS_KEEP_PREVIOUS_DAYS", 7)
"""Days a replaced database is kept for an undo, unless the next operation ends it first."""
DBOPS_RETENTION = read_counts(env, "BACKUP_RETENTION", {"daily": 7, "weekly": 4, "monthly": 12})
"""Of how many days, ISO weeks and months each environment keeps the newest backup."""
DBOPS_MASKING_FILE = read_text(env, "DBOPS_MASKING_FILE") or str(
    BASE_DIR / "skinspire" / "masking.toml"
)
"""What happens to each column when rows leave a protected environment."""
SKINSPIRE_PG_BIN = read_text(env, "SKINSPIRE_PG_BIN")

DEFAULT_EXCEPTION_REPORTER = "skinspire.error_pages.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "skinspire.error_pages.Filter"
LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "filters": {"outages": {"()": "skinspire.outage.OneLineOutages"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["outages"],
        }
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
