"""Replace a database's contents where it stands, for a role that may not create databases.

Everything happens in one transaction: the old contents go, the new ones are loaded and proven, and
only then it commits. It costs what the build aside does not: the tables are locked from the first
drop to the commit, nothing is kept for an undo but the backup made just before, and a transaction
that touches very many tables may need a larger ``max_locks_per_transaction``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dbops.exceptions import DbopsError, ProofError
from dbops.operations.context import OperationContext
from dbops.operations.defuse import Arriving, defuse, forget_history
from dbops.operations.guards import Endpoint
from dbops.operations.replacement import ReplacedInPlace, require_equal
from dbops.operations.restore_source import Source
from dbops.postgres import contents
from dbops.postgres.connection import OUR_SEARCH_PATH, execute, fetch_all_polled, session
from dbops.postgres.databases import require_shared_untouched
from dbops.postgres.fingerprint import Fingerprint, take_fingerprint
from dbops.postgres.script import PUBLIC_FIRST, load_script
from dbops.postgres.stamp import write_stamp


def restore_in_place(
    endpoint: Endpoint,
    source: Source,
    save: Callable[[], str],
    arriving: Arriving,
    context: OperationContext,
) -> ReplacedInPlace:
    """Replace everything in one transaction.

    Args:
        save: backs up what is about to be replaced; if that fails, nothing else begins.

    Raises:
        PrivilegeError: something in it belongs to others. StatementError, ProofError: rolled back.
    """
    context.log(
        "In place: the tables are locked until it is done, and only a backup keeps what is replaced"
    )
    saved_as = save()
    expected = source.expected
    with session(
        endpoint.params, application=context.application, actor=context.actor
    ) as connection:
        execute(connection, "SET lock_timeout = '10s'")  # an idle reader must not hold up all
        connection.autocommit = False
        context.step("empty")
        began = time.monotonic()
        contents.drop_contents(connection, context.check_cancelled)
        context.step("load")
        if expected is None:
            execute(connection, PUBLIC_FIRST)
        with source.script() as stream:
            load_script(
                stream,
                connection,
                server_major=endpoint.server.major,
                poll=context.check_cancelled,
                name=source.name,
                trusted=expected is not None,
            )
        if expected is None:
            require_shared_untouched(connection, source.name)
        context.step("prove")
        execute(connection, OUR_SEARCH_PATH)  # the script had its own
        unmasked = arriving.looked_at(connection, endpoint.environment)
        forget_history(connection, context, endpoint.environment)
        write_stamp(connection, endpoint.environment, unmasked)
        actual = take_fingerprint(
            connection,
            context.check_cancelled,
            checksums=expected is not None and expected.checksums is not None,
        )
        require_equal(expected, actual, context)
        if expected and not same_grants(expected, actual, source, endpoint):
            raise ProofError(f"The grants of {source.name} did not arrive as they were.")
        if expected and actual.trigger_digest != expected.trigger_digest:
            raise ProofError(f"The triggers of {source.name} did not arrive as they were.")
        defused = defuse(connection, arriving.defuse, context)
        context.begin_commit()
        connection.commit()
        outage = (time.monotonic() - began) * 1000
        connection.autocommit = True
        try:  # it is committed: what fails from here on must not look like a failed restore
            fetch_all_polled(connection, "ANALYZE", context.check_cancelled)
        except DbopsError as error:
            context.log(f"Not analysed: {error}")
    rows = actual.rows - sum(defused.values())
    return ReplacedInPlace(rows, len(actual.tables), outage, saved_as, defused)


def same_grants(
    expected: Fingerprint, actual: Fingerprint, source: Source, endpoint: Endpoint
) -> bool:
    """True also where they cannot be compared: another major knows other privileges."""
    comparable = expected.grants_digest is not None and source.major == endpoint.server.major
    return not comparable or expected.grants_digest == actual.grants_digest
