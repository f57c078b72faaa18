"""Triggers that stamp rows and keep their history: what there should be, what there is, installing.

What should be follows from the columns and from what is wished for, what is from the server's
catalogue; nothing is recorded elsewhere. Digests in the comments of functions and triggers tell
ours of this version.
"""

from dbops.postgres.triggers.installation import (
    LOCK_TIMEOUT,
    Removal,
    install,
    plan,
    put_back,
    record_nothing,
    remove,
)
from dbops.postgres.triggers.legacy import Replaced
from dbops.postgres.triggers.planning import Installation
from dbops.postgres.triggers.states import TriggerStatus, status
from dbops.postgres.triggers.survey import digest, present
from dbops.postgres.triggers.wishes import SECRETS, HistoryRule, Wishes

__all__ = [
    "LOCK_TIMEOUT", "SECRETS", "HistoryRule", "Installation", "Removal", "Replaced",
    "TriggerStatus", "Wishes", "digest", "install", "plan", "present", "put_back",
    "record_nothing", "remove", "status",
]  # fmt: skip
