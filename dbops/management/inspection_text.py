"""What ``inspect_db`` found, as text. Every name out of a database is made visible first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import humanize

from dbops.management.console import Console, size
from dbops.operations.anatomy import Anatomy, Overview, TableDetail
from dbops.postgres.anatomy import FunctionRow, TableRow, TriggerRow
from dbops.postgres.names import qualified, visible
from dbops.wording import counted


def show_anatomy(console: Console, found: Anatomy, backup: str) -> None:
    """Everything that was asked for, one view after another.

    Args:
        backup: when the last backup was made and how it was proven, in words.
    """
    if found.overview:
        _show_overview(console, found.overview, backup)
    if found.detail:
        _show_detail(console, found.detail)
    if found.tables is not None:
        _show_tables(console, found.tables)
    if found.triggers is not None:
        _show_triggers(console, found.triggers)
    if found.functions is not None:
        _show_functions(console, found.functions)
    if found.structure is not None:
        _show_structure(console, found)
    for sentence in found.unseen:
        console.note(sentence, style="yellow")


def _show_overview(console: Console, it: Overview, backup: str) -> None:
    facts = it.database
    limit = facts.connection_limit if facts.connection_limit >= 0 else facts.server_limit
    states = ", ".join(f"{number} {state}" for state, number in it.triggers.items() if number)
    extensions = ", ".join(f"{visible(name)} {version}" for name, version in it.extensions.items())
    _facts(
        console,
        {
            "server": f"{it.server}, PostgreSQL {facts.version}",
            "size": size(facts.size),
            "encoding": f"{facts.encoding}, collation {facts.collation}",
            "owner": facts.owner,
            "connections": f"{facts.connections} of {limit}",
            "stamp": it.stamp or "none yet",
            "extensions": extensions or "none",
            "migrations": f"{it.migrations} applied",
            "triggers": states or "none",
            "last backup": backup,
        },
    )
    _section(
        console, "Schemas", ("schema", "tables", "views", "functions", "size"),
        [(row.name, row.tables, row.views, row.functions, size(row.size)) for row in it.schemas],
    )  # fmt: skip
    _section(
        console, "Largest tables", ("table", "rows", "size", "indexes"),
        [(_label(row), _count(row.rows), size(row.total), row.indexes) for row in it.largest],
    )  # fmt: skip


def _show_tables(console: Console, rows: Sequence[TableRow]) -> None:
    _section(
        console, counted(len(rows), "table"),
        ("table", "rows", "size", "indexes", "size of these", "bloat", "vacuumed", "analysed", ""),
        [
            (_label(it), _count(it.rows), _size(it.size), it.indexes, _size(it.index_size),
             _size(it.bloat), _age(it.last_vacuum), _age(it.last_analyze), _marks(it))
            for it in rows
        ],
    )  # fmt: skip


def _show_triggers(console: Console, rows: Sequence[TriggerRow]) -> None:
    _section(
        console, counted(len(rows), "trigger"), ("table", "trigger", "when", "function", "state"),
        [
            (qualified(it.schema, it.table), it.name, it.when,
             qualified(it.function_schema, it.function), _state(it))
            for it in rows
        ],
    )  # fmt: skip


def _show_functions(console: Console, rows: Sequence[FunctionRow]) -> None:
    _section(
        console, counted(len(rows), "function"),
        ("function", "returns", "kind", "owner", "by everybody"),
        [
            (f"{qualified(it.schema, it.name)}({it.arguments})", it.returns or "",
             ", ".join(_kind(it)), it.owner, "yes" if it.public else "no")
            for it in rows
        ],
    )  # fmt: skip


def _show_structure(console: Console, found: Anatomy) -> None:
    every = sorted((found.structure or {}).items())
    for kind, items in groupby(every, key=lambda item: item[0].kind):
        console.say(kind, style="bold")
        for identity, definition in items:
            console.say(f"  {visible(identity.name)}")
            for line in definition.text.splitlines():
                console.say(f"      {visible(line)}", style="dim")


def _detail_facts(it: TableDetail) -> dict[str, str | None]:
    whole, summary = it.relation, it.summary
    sizes = {"rows": whole.heap_size, "TOAST": whole.toast_size, "indexes": whole.index_size}
    return {
        "kind": summary.kind if summary else "view",
        "comment": whole.comment,
        "owner": whole.owner,
        "rows": f"about {_count(summary.rows)}" if summary else None,
        "size": ", ".join(f"{_size(n)} {what}" for what, n in sizes.items() if n is not None),
        "bloat": f"about {_size(summary.bloat)}" if summary and summary.bloat else None,
        "partitioned by": whole.partitioned_by
        and f"{whole.partitioned_by}, {whole.children} partitions",
        "partition of": summary.partition_of if summary else None,
        "bounds": whole.partition_bounds,
        "row security": "on" if whole.row_security else None,
    }


def _show_detail(console: Console, it: TableDetail) -> None:
    console.say(visible(qualified(it.table.schema, it.table.name)), style="bold")
    _facts(console, _detail_facts(it))
    _section(
        console, "Columns", ("column", "type", "null", "default", "comment"),
        [
            (column.name, column.type, "yes" if column.nullable else "no",
             column.filled, column.comment or "")
            for column in it.columns
        ],
    )  # fmt: skip
    _section(
        console, "Constraints", ("constraint", "type", "definition"),
        [(c.name, c.type, c.definition) for c in it.constraints],
    )  # fmt: skip
    _section(
        console, "Indexes", ("index", "size", "scans", "definition", ""),
        [
            (index.name, size(index.size), _count(index.scans), index.definition,
             "" if index.valid else "invalid")
            for index in it.indexes
        ],
    )  # fmt: skip
    if it.triggers:
        _show_triggers(console, it.triggers)
    _section(
        console, "Referenced by", ("table", "constraint", "definition"),
        [(qualified(r.schema, r.table), r.name, r.definition) for r in it.referenced_by],
    )  # fmt: skip
    if it.relation.query:
        _section(console, "Query", ("",), [(line,) for line in it.relation.query.splitlines()])


def _facts(console: Console, facts: dict[str, str | None]) -> None:
    for name, value in facts.items():
        if value:
            console.say(f"{name:<14}  {visible(value)}")


def _section(
    console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """A table under its title; nothing where it has no rows."""
    cells = [[visible(str(cell)) for cell in row] for row in rows]
    if not cells:
        if title[:2] == "0 ":
            console.say(f"{title}.")
        return
    console.say("")
    console.say(title, style="bold")
    console.table(columns, cells)


def _label(row: TableRow) -> str:
    return qualified(row.schema, row.name)


def _count(number: int | None) -> str:
    return "not known" if number is None else humanize.intcomma(number)


def _size(number: int | None) -> str:
    return "" if number is None else size(number)


def _age(moment: datetime | None) -> str:
    return humanize.naturaltime(moment) if moment else "never"


def _marks(row: TableRow) -> str:
    marks = [row.kind] if row.kind != "table" else []
    if row.partition_of:
        marks.append(f"partition of {row.partition_of}")
    if row.invalid_indexes:
        marks.append(f"{row.invalid_indexes} invalid indexes")
    return ", ".join(marks)


def _state(row: TriggerRow) -> str:
    return row.state + (", ours" if row.ours else "") + (", inherited" if row.inherited else "")


def _kind(row: FunctionRow) -> Iterable[str]:
    yield f"{row.kind} in {row.language}"
    yield row.volatility
    if row.security_definer:
        yield "with its owner's rights"
