"""The kinds of operations: how a recorded one becomes a request, and its result a record.

This is where configuration meets the operations, which read none themselves.
"""

from __future__ import annotations

from collections.abc import Mapping

from dbops.kinds.backups import BACKUP_KINDS
from dbops.kinds.copies import COPY_KINDS
from dbops.kinds.kind import KindOfOperation
from dbops.kinds.migrations import MIGRATION_KINDS
from dbops.kinds.schema import SCHEMA_KINDS
from dbops.kinds.triggers import TRIGGER_KINDS
from dbops.kinds.upkeep import UPKEEP_KINDS

KINDS: Mapping[str, KindOfOperation] = {
    **BACKUP_KINDS,
    **COPY_KINDS,
    **SCHEMA_KINDS,
    **MIGRATION_KINDS,
    **UPKEEP_KINDS,
    **TRIGGER_KINDS,
}
