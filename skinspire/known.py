"""The variables Skinspire reads, and how each may be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from skinspire.environment import ENVIRONMENTS, UnknownEnvironment, normalize_environment

_CLOSE = 0.85
_OURS = re.compile(
    r"(SKINSPIRE|DBOPS|DBBACKUP|BACKUP|MASKING|SECRET|DEV|TEST|PROD|CONTROL)_|\w+_DATABASE_URL"
)


@dataclass(frozen=True)
class Variable:
    """One variable, read from the process or from ``.env``."""

    name: str
    what: str
    """In few words."""
    secret: bool = False
    """Also read from the file ``NAME_FILE`` names; never shown."""
    empty: str = ""
    """What holds where it is not set; "" where the setting itself tells."""
    setting: str = ""
    """Django's setting that holds its value; "" where it bears the variable's name."""

    @property
    def is_url(self) -> bool:
        """A URL is shown without what is secret in it."""
        return self.name.endswith("_URL")


KNOWN: tuple[Variable, ...] = (
    Variable(
        "SKINSPIRE_ENV",
        "the environment this process runs in, whatever switch_env said",
        empty="the file of switch_env",
    ),
    Variable("DJANGO_ENV", "the same, asked last", empty="dev"),
    Variable(
        "SKINSPIRE_DOTENV", "another file than .env beside manage.py", empty=".env beside manage.py"
    ),
    Variable(
        "SKINSPIRE_HOME",
        "the directory of everything Skinspire writes",
        empty="var/ beside manage.py",
    ),
    Variable(
        "SECRET_KEY",
        "signs sessions, tokens, backups and the journal",
        empty="made, and kept in SKINSPIRE_HOME; needed in prod",
        secret=True,
    ),
    Variable(
        "SECRET_KEY_FALLBACKS",
        "earlier keys, by which is still verified",
        empty="none",
        secret=True,
    ),
    *(
        Variable(
            f"{name.upper()}_DATABASE_URL",
            f"the database of {name}",
            empty="the embedded server",
            secret=True,
        )
        for name in ENVIRONMENTS
    ),
    *(
        Variable(
            f"{name.upper()}_POOL_URL",
            f"a pooler before it, which {name}'s console goes by",
            empty="its DATABASE_URL",
            secret=True,
        )
        for name in ENVIRONMENTS
    ),
    *(
        Variable(
            f"{name.upper()}_REPLICA_URL",
            f"a standby of {name}, which read-only sessions go by",
            empty="its DATABASE_URL",
            secret=True,
        )
        for name in ENVIRONMENTS
    ),
    Variable(
        "CONTROL_DATABASE_URL",
        "operations, journal, catalogue, task queue",
        empty="SQLite in SKINSPIRE_HOME",
        secret=True,
    ),
    Variable(
        "SKINSPIRE_PG_BIN",
        "the one directory of pg_dump and pg_restore",
        empty="chosen by the server's version",
    ),
    Variable(
        "BACKUP_STORAGE_URL", "where backups lie", empty="backups/ in SKINSPIRE_HOME", secret=True
    ),
    Variable(
        "AWS_ACCESS_KEY_ID",
        "for a storage on S3",
        empty="sought where AWS's tools seek it",
        secret=True,
    ),
    Variable(
        "AWS_SECRET_ACCESS_KEY",
        "for a storage on S3",
        empty="sought where AWS's tools seek it",
        secret=True,
    ),
    Variable(
        "AWS_SESSION_TOKEN",
        "for a storage on S3",
        empty="sought where AWS's tools seek it",
        secret=True,
    ),
    Variable(
        "BACKUP_RECIPIENTS",
        "public keys that backups are encrypted for",
        empty="backups are not encrypted by age",
    ),
    Variable(
        "BACKUP_IDENTITY",
        "opens encrypted backups",
        empty="encrypted backups cannot be restored",
        secret=True,
    ),
    Variable(
        "DBBACKUP_GPG_RECIPIENT",
        "whom GPG encrypts for, where age has no recipient",
        empty="backups are not encrypted by GPG",
    ),
    Variable(
        "DBBACKUP_GPG_ALWAYS_TRUST", "whether GPG asks for no trust in the key", empty="false"
    ),
    Variable("BACKUP_GPG_PASSPHRASE", "opens GPG's key", empty="asked of GPG's agent", secret=True),
    Variable("GNUPGHOME", "GPG's directory", empty="GPG's own"),
    Variable(
        "BACKUP_RETENTION",
        "how many days, weeks and months keep a backup",
        empty="daily=7,weekly=4,monthly=12",
        setting="DBOPS_RETENTION",
    ),
    Variable(
        "ALLOWED_HOSTS",
        "names the console answers to",
        empty="localhost; in prod none, which is refused",
    ),
    Variable("DEBUG", "helpful error pages; never in prod", empty="true in dev, false elsewhere"),
    Variable(
        "SECURE_SSL_REDIRECT", "whether prod's console sends http to https", empty="true in prod"
    ),
    Variable(
        "ACCOUNT_LOCK_AFTER",
        "failed sign-ins in a row that lock an account; 0 locks none",
        empty="100",
    ),
    Variable(
        "ACCOUNT_GUESSES",
        "guesses that are answered: at a name from an address, at a name, from an address",
        empty="pair=5,user=20,address=50",
    ),
    Variable("TRUSTED_PROXIES", "networks whose X-Forwarded-For is believed", empty="nobody's is"),
    Variable("ACCOUNT_LOCK_MINUTES", "for how long", empty="15"),
    Variable("ACCOUNT_SESSION_LIMIT", "sessions an account may have; 0: any number", empty="5"),
    Variable("ACCOUNT_IDLE_MINUTES", "after which an idle browser is signed out", empty="30"),
    Variable("ACCOUNT_ABSOLUTE_HOURS", "longest session of a browser", empty="12"),
    Variable("ACCOUNT_REMEMBER_DAYS", "the same of one that is to remember", empty="14"),
    Variable("ACCOUNT_FRESH_MINUTES", "how long a sign-in opens what destroys", empty="15"),
    Variable(
        "ACCOUNT_REGISTRATION", "who may register: invitation, open or off", empty="invitation"
    ),
    Variable("ACCOUNT_INVITATION_DAYS", "how long an invitation opens", empty="7"),
    Variable(
        "ACCOUNT_SECOND_FACTOR",
        "roles that need a second factor, or none",
        empty="operator,administrator in prod, none elsewhere",
    ),
    Variable(
        "EMAIL_URL",
        "the mail server",
        empty="the console prints mail; in prod none is sent",
        secret=True,
    ),
    Variable(
        "EMAIL_FROM", "who mail is from", empty="skinspire@localhost", setting="DEFAULT_FROM_EMAIL"
    ),
    Variable("ACCOUNT_REFRESH_HOURS", "how long a program stays signed in", empty="12"),
    Variable(
        "ACCOUNT_REFRESH_GRACE_SECONDS",
        "how long a used refresh token is taken again",
        empty="5",
    ),
    Variable(
        "API_LIMITS",
        "requests to the API a minute",
        empty="sign-in=30,open=600,signed-in=1200",
    ),
    Variable("DBOPS_ALLOW_COPY_TO_PROD", "whether anything may be copied into prod", empty="false"),
    Variable(
        "DBOPS_ALLOW_UNMASKED", "whether --no-mask may take prod's rows elsewhere", empty="true"
    ),
    Variable("DBOPS_KEEP_PREVIOUS_DAYS", "days a replaced database is kept", empty="7"),
    Variable(
        "DBOPS_DEFUSE",
        "tables emptied in copies, beside those Skinspire knows",
        empty="those alone",
    ),
    Variable(
        "DBOPS_ROW_HISTORY",
        "tables whose rows' history is kept, as table: columns left out",
        empty="none",
    ),
    Variable(
        "DBOPS_EVENT_TRIGGER", "whether tables made later get their triggers at once", empty="false"
    ),
    Variable("DBOPS_MASKING_FILE", "the masking rules", empty="skinspire/masking.toml"),
    Variable(
        "MASKING_KEY",
        "draws the false values of masked copies",
        empty="SECRET_KEY does",
        secret=True,
    ),
)
BY_NAME = {variable.name: variable for variable in KNOWN}
NAMES = frozenset(BY_NAME) | {f"{name}_FILE" for name, it in BY_NAME.items() if it.secret}
"""All that are read, with those that name a file of a secret."""


def likely_meant(names: Iterable[str], *, anything: bool) -> list[tuple[str, str]]:
    """(name, the variable it was likely meant to be) of names that nothing reads.

    Args:
        anything: any name counts, as in a file that is ours; else only those that begin or end
            like ours.
    """
    unknown = [name for name in names if name not in NAMES and (anything or _OURS.match(name))]
    return [(name, near) for name in unknown if (near := _nearest(name))]


def _nearest(name: str) -> str:
    environment, _, rest = name.upper().partition("_")
    if rest in ("DATABASE_URL", "DATABASE_URL_FILE"):
        try:
            return f"{normalize_environment(environment).upper()}_{rest}"
        except UnknownEnvironment:
            pass
    close = get_close_matches(name.upper(), NAMES, n=1, cutoff=_CLOSE)
    return close[0] if close else ""
