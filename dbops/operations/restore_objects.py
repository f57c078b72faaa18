"""Put single tables, or schemas, back: built aside like everything, then replaced in the living
database in one transaction.

A table that is there keeps its definition and gets the rows of the backup. Foreign keys that point
at it are taken off and put on again, which checks every row of them: the restore is refused rather
than leaving a reference to nothing. A table that is gone, and a schema, come back with all that
belongs to them.
"""

from __future__ import annotations

import difflib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psycopg2 import sql

from dbops.exceptions import (
    BackupInvalidError,
    DbopsError,
    PreflightError,
    ProofError,
    StatementError,
)
from dbops.operations.context import OperationContext
from dbops.operations.defuse import Arriving, defuse
from dbops.operations.guards import Endpoint
from dbops.operations.replacement import ReplacedInPlace, building, drop_built
from dbops.operations.restore_source import Source
from dbops.postgres import archive, catalog, contents, relations, sequences
from dbops.postgres.archive_script import DumpScript
from dbops.postgres.connection import (
    OUR_SEARCH_PATH,
    Connection,
    execute,
    fetch_all,
    fetch_all_polled,
    session,
)
from dbops.postgres.databases import require_shared_untouched
from dbops.postgres.params import ConnectionParams
from dbops.postgres.process import CHUNK
from dbops.postgres.pump import copy_rows
from dbops.postgres.script import load_script
from dbops.postgres.stamp import write_stamp
from dbops.postgres.tools import find_tool
from dbops.wording import counted

Save = Callable[[tuple[str, ...]], str]
"""Backs up the rows of tables (of all, where none is given); returns the backup's name."""
_LOCK_WAIT = "10s"


@dataclass(frozen=True)
class Chosen:
    """What is to be replaced: tables ("schema.table") or schemas."""

    tables: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()


def restore_objects(
    endpoint: Endpoint,
    source: Source,
    chosen: Chosen,
    save: Save,
    pg_bin: Path | None,
    arriving: Arriving,
    context: OperationContext,
) -> ReplacedInPlace:
    """Build the source aside, back up what is about to be replaced, replace it, and drop what was
    built.

    Raises:
        BackupInvalidError: the source does not hold what was named.
        PreflightError: the columns are not the same any more, or others depend on it.
        StatementError, ProofError: rolled back.
    """
    require_held(source, chosen, endpoint)
    with building(endpoint, context) as replacement:
        context.step("create")
        replacement.create_empty()
        with session(endpoint.params) as look:
            present = [table for table in chosen.tables if relations.table_kind(look, table)]
        source.load(replacement.incoming, _rows_needed(source, chosen, present))
        with session(replacement.incoming, application=context.application) as connection:
            unmasked = arriving.looked_at(connection, endpoint.environment)
            meaningless = arriving.meaningless(connection, endpoint.environment)
        with _both(endpoint, replacement.incoming, context) as (origin, target):
            _require_arrived(source, origin, chosen)
            for table in present:
                _require_same_columns(table, origin, target)
            # The rows of a partitioned table are its partitions': a whole backup has them all.
            plain = {table.label for table in catalog.tables(target)}
            narrow = bool(chosen.tables) and set(chosen.tables) <= plain
            saved_as = save(tuple(present) if narrow else ())
            work = _Replacing(
                endpoint, source, replacement.incoming, origin, target, context, unmasked,
                meaningless,
            )  # fmt: skip
            dump = None
            if chosen.schemas or len(present) < len(chosen.tables):
                dump = find_tool("pg_dump", endpoint.server.major, pg_bin)
            replaced = work.replace(chosen, present, dump)
        drop_built(replacement, context)
    return replace(replaced, saved_as=saved_as)


def require_held(source: Source, chosen: Chosen, endpoint: Endpoint) -> None:
    """Before anything is built; what a dump made elsewhere holds is known only afterwards.

    Raises:
        BackupInvalidError: something chosen is not in it.
    """
    missing = source.lacks(chosen.tables, chosen.schemas, endpoint)
    if missing and source.expected:
        known = [*source.expected.tables, *{it.split(".", 1)[0] for it in source.expected.tables}]
        near = difflib.get_close_matches(missing[0], known, 3)
        raise BackupInvalidError(
            f"{source.name} holds no {', '.join(missing)}.",
            hint=f"Did you mean {', '.join(near)}?" if near else "Tables are named schema.table",
        )


def _rows_needed(source: Source, chosen: Chosen, present: Sequence[str]) -> frozenset[str] | None:
    """The tables whose rows are enough; None where the definitions are needed, too: without the
    other tables' rows no foreign key would hold, so none is built then.

    Raises:
        BackupInvalidError: only a whole backup has what is needed.
    """
    held = source.expected.tables.keys() if source.expected else frozenset[str]()
    narrow = len(present) == len(chosen.tables) and not chosen.schemas
    if narrow and set(present) <= held:
        return frozenset(present)
    if source.partial:
        raise BackupInvalidError(
            f"{source.name} holds rows for tables that exist: it takes a whole backup to make one."
        )
    return None


@contextmanager
def _both(
    endpoint: Endpoint, incoming: ConnectionParams, context: OperationContext
) -> Iterator[tuple[Connection, Connection]]:
    with (
        session(incoming, application=context.application) as origin,
        session(endpoint.params, application=context.application, actor=context.actor) as target,
    ):
        yield origin, target


def _require_arrived(source: Source, origin: Connection, chosen: Chosen) -> None:
    expected = source.expected
    for table in chosen.tables:
        if relations.table_kind(origin, table) is None:
            raise BackupInvalidError(
                f"{source.name} holds no table {table}.", hint="Tables are named schema.table"
            )
        rows = expected.tables.get(table) if expected else None
        if rows is not None and rows != _count(origin, table):
            raise ProofError(f"{table} arrived with other than its {counted(rows, 'row')}.")
    there = {name for (name,) in fetch_all(origin, "SELECT nspname FROM pg_namespace")}
    for schema in chosen.schemas:
        if schema not in there:
            raise BackupInvalidError(f"{source.name} holds no schema {schema}.")


def _require_same_columns(table: str, origin: Connection, target: Connection) -> None:
    theirs, ours = relations.columns(origin, table), relations.columns(target, table)
    if dict(theirs) != dict(ours):
        differing = sorted({name for name, _ in set(theirs) ^ set(ours)})
        raise PreflightError(
            f"{table} has other columns than in the backup: {', '.join(differing)}.",
            hint=f"Rename or drop the table to get the backup's own, or restore the whole backup "
            f"aside: --into {table.split('.')[-1]}_check",
        )


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split(".", 1))


def _count(connection: Connection, table: str) -> int:
    statement = sql.SQL("SELECT count(*) FROM {}").format(_own_rows(connection, table))
    return int(fetch_all(connection, statement)[0][0])


def _is_behind(here: int, there: int, ascends: bool) -> bool:
    return here < there if ascends else here > there


def _own_rows(connection: Connection, table: str) -> sql.Composable:
    """Not those of tables that inherit from it; a partitioned table has none but theirs."""
    only = "" if relations.table_kind(connection, table) == "p" else "ONLY "
    return sql.SQL(only) + _identifier(table)


class _Replacing:
    """The one transaction in which the living database changes."""

    def __init__(
        self,
        endpoint: Endpoint,
        source: Source,
        incoming: ConnectionParams,
        origin: Connection,
        target: Connection,
        context: OperationContext,
        unmasked: str | None,
        meaningless: Sequence[str],
    ) -> None:
        """``meaningless``: patterns of tables whose rows mean nothing here."""
        self._unmasked, self._meaningless = unmasked, meaningless
        self._endpoint, self._source, self._incoming = endpoint, source, incoming
        self._origin, self._target, self._context = origin, target, context

    def replace(self, chosen: Chosen, present: Sequence[str], dump: Path | None) -> ReplacedInPlace:
        """What was replaced; in its time the tables were locked."""
        context, target = self._context, self._target
        execute(target, f"SET lock_timeout = '{_LOCK_WAIT}'")
        target.autocommit = False
        context.step("replace")
        began = time.monotonic()
        if chosen.schemas:
            self._replace_schemas(chosen.schemas, dump)
        else:
            self._replace_rows(present)
            self._create([table for table in chosen.tables if table not in present], dump)
        tables = [*chosen.tables, *self._tables_of(chosen.schemas)]
        context.step("prove")
        rows = self._prove(tables)
        if self._source.expected is None:
            require_shared_untouched(target, self._source.name)
        defused = defuse(target, self._meaningless, context, among=tables)
        if self._unmasked:
            write_stamp(target, self._endpoint.environment, self._unmasked)
        context.begin_commit()
        target.commit()
        outage = (time.monotonic() - began) * 1000
        target.autocommit = True
        try:  # it is committed: what fails from here on must not look like a failed restore
            for table in tables:
                execute(target, sql.SQL("ANALYZE {}").format(_identifier(table)))
        except DbopsError as error:
            context.log(f"Not analysed: {error}")
        rows -= sum(defused.values())
        return ReplacedInPlace(rows, len(tables), outage, None, defused)

    def _replace_rows(self, tables: Sequence[str]) -> None:
        if not tables:
            return
        target = self._target
        names = sql.SQL(", ").join(_own_rows(target, table) for table in tables)
        self._lock(tables, names)
        keys = self._take_off_foreign_keys(relations.foreign_keys_to(target, tables))
        triggers = relations.trigger_states(target, tables)
        for table in tables:
            execute(target, _alter(table, "DISABLE TRIGGER USER"))
        execute(target, sql.SQL("TRUNCATE {}").format(names))
        for table in tables:
            self._copy(table)
        # A check that waits for the commit stands in the way of every ALTER TABLE until then.
        self._check_deferred(tables)
        for table, trigger, how in triggers:
            if how:
                statement = sql.SQL("ALTER TABLE ONLY {} {} TRIGGER {}")
                execute(target, statement.format(
                    _identifier(table), sql.SQL(how), sql.Identifier(trigger)
                ))  # fmt: skip
        self._move_sequences(tables)
        self._put_on(keys)

    def _lock(self, tables: Sequence[str], names: sql.Composable) -> None:
        try:
            execute(self._target, sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))
        except StatementError as error:
            raise StatementError(
                f"{', '.join(tables)} could not be locked: {error}.",
                hint=f"After {_LOCK_WAIT} it gives up. Let the sessions that use it end, then run "
                f"it again."
                if "timeout" in str(error)
                else "Its owner may replace it.",
            ) from error

    def _check_deferred(self, tables: Sequence[str]) -> None:
        try:
            execute(self._target, "SET CONSTRAINTS ALL IMMEDIATE")
        except StatementError as error:
            raise StatementError(
                f"Rows of {', '.join(tables)} refer to rows that are not there: {error}.",
                hint="Nothing was changed. Restore both tables: --table A --table B",
            ) from error

    def _copy(self, table: str) -> None:
        known = relations.columns(self._target, table)
        columns = [name for name, kind in known if not kind.endswith("generated")]
        listed = sql.SQL(", ").join(map(sql.Identifier, columns))
        copy_rows(
            self._origin,
            self._target,
            sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(
                listed, _own_rows(self._origin, table)
            ),
            sql.SQL("COPY {} ({}) FROM STDIN").format(_identifier(table), listed),
            self._context.check_cancelled,
        )

    def _move_sequences(self, tables: Sequence[str]) -> None:
        """Forward only: numbers that were given out since must not be given out again."""
        theirs = sequences.sequence_values(self._origin)
        ours = sequences.sequence_values(self._target)
        for sequence, ascends in relations.sequences_of(self._target, tables):
            there, here = theirs.get(sequence), ours.get(sequence)
            if there is not None and (here is None or _is_behind(here, there, ascends)):
                name = _identifier(sequence).as_string(self._target)
                # setval alone would outlive a rollback; RESTART gives the sequence a new file.
                execute(self._target, f"ALTER SEQUENCE {name} RESTART")
                fetch_all(self._target, "SELECT setval(%s::regclass, %s)", [name, there])

    def _take_off_foreign_keys(self, keys: list[Any]) -> list[Any]:
        for table, name, *_ in keys:
            execute(self._target, _alter(table, "DROP CONSTRAINT", name))
        return keys

    def _put_on(self, keys: Iterable[tuple[str, str, str, str | None]]) -> None:
        for table, name, definition, comment in keys:
            try:
                execute(self._target, _alter(table, "ADD CONSTRAINT", name, definition))
                if comment is not None:
                    statement = sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}")
                    execute(self._target, statement.format(
                        sql.Identifier(name), _identifier(table), sql.Literal(comment)
                    ))  # fmt: skip
            except StatementError as error:
                raise StatementError(
                    f"Rows of {table} refer to rows that the backup does not hold: {error}.",
                    hint="Nothing was changed. Restore both tables: --table A --table B",
                ) from error

    def _create(self, tables: Sequence[str], dump: Path | None) -> None:
        if not tables:
            return
        self._require_whole_families(tables)
        self._run_dump(dump, [f"--table={archive.pattern(*it.split('.', 1))}" for it in tables])
        there = {
            (table, name) for table, name, *_ in relations.foreign_keys_to(self._target, tables)
        }
        self._put_on(
            key
            for key in relations.foreign_keys_to(self._origin, tables)
            if key[:2] not in there and relations.table_kind(self._target, key[0])
        )

    def _replace_schemas(self, schemas: Sequence[str], dump: Path | None) -> None:
        arriving = catalog.tables(self._origin)
        for schema in schemas:
            self._require_whole_families(it.label for it in arriving if it.schema == schema)
            tables = self._tables_of([schema])
            outside = [
                key
                for key in relations.foreign_keys_to(self._target, tables)
                if key[0].split(".", 1)[0] != schema
            ]
            self._take_off_foreign_keys(outside)
            before = contents.identities(self._target, without_schema=schema)
            gone = contents.drop_schema(self._target, schema, self._context.check_cancelled)
            lost = sorted(before - contents.identities(self._target, without_schema=schema))
            if lost:
                more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
                raise PreflightError(
                    f"Schema {schema} cannot be replaced by itself: {lost[0]}{more} depends on it.",
                    hint="Restore the whole backup, or single tables: --table",
                )
            if not gone and schema != "public":
                raise PreflightError(
                    f"Schema {schema} cannot be replaced by itself: an extension lives in it.",
                    hint="Restore the whole backup, or single tables: --table",
                )
            self._run_dump(dump, [f"--schema={archive.pattern(schema)}"])
            self._put_on(outside)

    def _require_whole_families(self, tables: Iterable[str]) -> None:
        """A partition made anew would be attached before its rows come, and the parent's triggers
        would fire on each of them."""
        made = set(tables)
        for table in made:
            parent = relations.partition_parent(self._origin, table)
            if parent is not None and parent not in made:
                raise PreflightError(
                    f"{table} is a partition of {parent}, which is not replaced with it.",
                    hint=f"Restore the whole: --table {parent}",
                )

    def _run_dump(self, dump: Path | None, options: list[str]) -> None:
        """Whatever the built database holds of it, definitions and rows, into the target."""
        assert dump is not None
        script = DumpScript(dump, self._incoming, options, self._context.check_cancelled)
        with io.BufferedReader(script, CHUNK) as stream:
            load_script(
                stream,
                self._target,
                server_major=self._endpoint.server.major,
                poll=self._context.check_cancelled,
                name=self._source.name,
                trusted=True,
            )
        execute(self._target, OUR_SEARCH_PATH)

    def _tables_of(self, schemas: Sequence[str]) -> list[str]:
        return [it.label for it in catalog.tables(self._target) if it.schema in schemas]

    def _prove(self, tables: Sequence[str]) -> int:
        total = 0
        for table in tables:
            statement = sql.SQL("SELECT count(*) FROM {}").format(_own_rows(self._target, table))
            poll = self._context.check_cancelled
            there = int(fetch_all_polled(self._target, statement, poll)[0][0])
            wanted = int(fetch_all_polled(self._origin, statement, poll)[0][0])
            if there != wanted:
                raise ProofError(f"{table} holds {there} instead of {counted(wanted, 'row')}.")
            total += there
        return total


def _alter(table: str, what: str, name: str = "", rest: str = "") -> sql.Composable:
    words: list[sql.Composable] = [
        sql.SQL("ALTER TABLE {} {}").format(_identifier(table), sql.SQL(what))
    ]
    if name:
        words.append(sql.Identifier(name))
    if rest:  # as the server wrote it
        words.append(sql.SQL(rest))
    return sql.SQL(" ").join(words)
