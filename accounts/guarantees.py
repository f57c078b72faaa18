"""The triggers that keep the rules of accounts in the database, for every writer.

Plain data: ``skinspire/guarantees.py`` hands it to whoever installs triggers.
"""

from __future__ import annotations

from pathlib import Path

SQL = Path(__file__).parent / "sql"
"""Holds ``<function>.sql``."""
USERS, SESSIONS, HISTORY = (
    "public.accounts_user", "public.accounts_session", "public.accounts_accountevent"
)  # fmt: skip
TRIGGERS = (
    # name, table, when, for each, function
    ("accounts_lock", USERS, "BEFORE INSERT OR UPDATE", "ROW", "lock_account"),
    ("accounts_follow", USERS, "AFTER UPDATE", "ROW", "follow_account"),
    ("accounts_guard", SESSIONS, "BEFORE INSERT OR UPDATE", "ROW", "guard_session"),
    ("accounts_limit", SESSIONS, "AFTER INSERT", "ROW", "limit_sessions"),
    ("accounts_record", HISTORY, "BEFORE INSERT", "ROW", "record_sign_in"),
    ("accounts_keep", HISTORY, "BEFORE UPDATE OR DELETE OR TRUNCATE", "STATEMENT", "keep_history"),
)
