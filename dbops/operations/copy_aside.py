"""A whole copy of a database beside itself: to rehearse on, or to change and put in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbops.exceptions import PrivilegeError, ProofError
from dbops.operations.context import OperationContext
from dbops.operations.copy import build_copy
from dbops.operations.copy_plan import CopyPlan, CopyRequest, choose_strategy
from dbops.operations.guards import Endpoint, Preflight, require_can_replace, require_existing
from dbops.operations.replacement import Replacement, building
from dbops.postgres.connection import session
from dbops.postgres.databases import MAINTENANCE, session_count
from dbops.postgres.params import ConnectionParams
from dbops.postgres.triggers import history
from dbops.wording import counted


@dataclass(frozen=True)
class CopyOptions:
    """How a copy is made."""

    jobs: int = 1
    pg_bin: Path | None = None


def require_can_copy(endpoint: Endpoint, why: str, without: str) -> None:
    """Refuse where the connecting role cannot make the copy that a migration needs.

    Args:
        why: half a sentence.
        without: the options that do without one.

    Raises:
        PrivilegeError: it lacks CREATEDB, or does not own the database.
    """
    role = endpoint.server.role
    if not endpoint.server.can_create_databases:
        raise PrivilegeError(
            f"Role {role} may not create databases, but {why}.",
            hint=f"As a superuser, once: ALTER ROLE {role} CREATEDB. Or without a copy: {without}",
        )
    require_can_replace(endpoint)


@contextmanager
def copied_aside(
    endpoint: Endpoint, options: CopyOptions, context: OperationContext
) -> Iterator[Replacement]:
    """Copy the database, proven and stamped like it; dropped again if the block fails.

    Whoever uses the database goes on doing so. Rows are not masked: they stay on their server. The
    row history may be left behind: :func:`keep_history`.

    Raises:
        PrivilegeError, SpaceError: no copy can be made here.
        ToolError, StatementError, ProofError: none was.
    """
    facts = require_existing(endpoint)
    require_can_replace(endpoint)
    room = Preflight()
    room.require_space(endpoint.server, facts.size)
    room.check()
    request = CopyRequest(
        source=endpoint.params,
        source_environment=endpoint.environment,
        target=endpoint.params,
        target_environment=endpoint.environment,
        jobs=options.jobs,
        pg_bin=options.pg_bin,
    )
    with session(endpoint.params.with_database(MAINTENANCE)) as control:
        busy = session_count(control, facts.name)
    plan = CopyPlan(endpoint, endpoint, *choose_strategy(request, endpoint, endpoint, busy))
    with building(endpoint, context) as replacement:
        context.log(f"Copying {facts.name} by {plan.strategy}: {plan.reason}")
        build_copy(request, plan, replacement, context)
        yield replacement


def keep_history(
    source: ConnectionParams, incoming: ConnectionParams, context: OperationContext
) -> None:
    """A database that is replaced by its own copy keeps what became of its rows, which only a copy
    of files takes along. Nobody may write meanwhile.

    Raises:
        ProofError: it did not arrive.
    """
    with session(source, application=context.application) as look:
        rows = history.count(look)
        with session(incoming, application=context.application) as connection:
            if not rows or history.count(connection) == rows:
                return
            history.carry(look, connection, context.check_cancelled)
            found = history.count(connection)
    if found != rows:
        raise ProofError(f"{history.TABLE} holds {found} instead of {counted(rows, 'row')}.")
    context.log(counted(rows, "row of row history stays", "rows of row history stay"))
