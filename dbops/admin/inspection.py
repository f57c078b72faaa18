"""What a database holds, as pages: the whole with its tables, and one table."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from dbops.admin.actions import SeeingView
from dbops.admin.presentation import age, bytes_text, count_text
from dbops.admin.preview import inspect_request
from dbops.catalogue import last_backup, told_of
from dbops.exceptions import ConnectionFailedError, DbopsError
from dbops.operations.anatomy import Anatomy, Overview, TableDetail, Wish, inspect_database
from dbops.operations.context import OperationContext
from dbops.postgres.anatomy import TableRow, TriggerRow
from dbops.postgres.connection import first_line
from dbops.postgres.names import qualified, visible
from dbops.wording import counted
from skinspire.environment import ENVIRONMENTS

SHOWN = 200
"""Tables on one page: the largest, of those that are searched for."""


class InspectionView(SeeingView):
    """A database as a whole; with ``?schema=…&table=…``, one table."""

    http_method_names = ("get", "head")

    def get(self, request: HttpRequest, environment: str) -> HttpResponse:
        if environment not in ENVIRONMENTS:
            raise Http404
        table = request.GET.get("table")
        context: dict[str, Any] = {"environment": environment}
        try:
            context |= _one_table(environment, request) if table else _whole(environment, request)
        except DbopsError as error:
            # The driver's own line: ours would name the role, which is not for everyone to see.
            cause = error.__cause__ if isinstance(error, ConnectionFailedError) else None
            told = first_line(cause) if cause else str(error)
            context |= {"problem": told, "title": f"Inside {environment}"}
        context |= admin.site.each_context(request)
        return TemplateResponse(request, "admin/dbops/inspection.html", context)


def _look(environment: str, wish: Wish) -> Anatomy:
    return inspect_database(inspect_request(environment), wish, OperationContext(""))


def _whole(environment: str, request: HttpRequest) -> dict[str, Any]:
    found = _look(environment, Wish())
    rows = _look(environment, Wish(tables=True)).tables or []
    wanted = request.GET.get("q", "")[:200].strip()
    matching = [it for it in rows if wanted.lower() in qualified(it.schema, it.name).lower()]
    matching.sort(key=lambda it: (-it.total, it.schema, it.name))
    assert found.overview
    return {
        "title": f"Inside {environment}",
        "facts": list(_facts(found.overview, environment)),
        "schemas": [
            (visible(it.name), count_text(it.tables), count_text(it.views),
             count_text(it.functions), bytes_text(it.size))
            for it in found.overview.schemas
        ],
        "tables": [_table(environment, it) for it in matching[:SHOWN]],
        "counted": _counted(len(rows), len(matching), wanted),
        "q": wanted,
        "unseen": found.unseen,
    }  # fmt: skip


def _counted(every: int, matching: int, wanted: str) -> str:
    """``The 200 largest of 10,000 tables``."""
    if wanted:
        shown = f"{count_text(min(matching, SHOWN))} of {counted(every, 'table', write=count_text)}"
        return f"{shown} with “{visible(wanted)}” in their name"
    if matching > SHOWN:
        return f"The {SHOWN} largest of {count_text(every)} tables"
    return f"{counted(every, 'table', write=count_text)}, the largest first"


def _facts(it: Overview, environment: str) -> Iterable[tuple[str, str]]:
    facts = it.database
    limit = facts.connection_limit if facts.connection_limit >= 0 else facts.server_limit
    yield "Server", f"{it.server}, PostgreSQL {facts.version.split()[0]}"
    yield "Size", bytes_text(facts.size)
    yield "Encoding", f"{facts.encoding}, collation {facts.collation}"
    yield "Connections", f"{facts.connections} of {limit}"
    yield "Stamp", it.stamp or "none yet"
    extensions = ", ".join(f"{name} {version}" for name, version in it.extensions.items())
    yield "Extensions", visible(extensions) or "none"
    yield "Migrations", f"{it.migrations} applied"
    states = ", ".join(f"{number} {state}" for state, number in it.triggers.items() if number)
    yield "Triggers", states or "none"
    yield "Last backup", told_of(last_backup(environment))


def _table(environment: str, it: TableRow) -> dict[str, Any]:
    return {
        "name": visible(qualified(it.schema, it.name)),
        "url": _url(environment, it.schema, it.name),
        "kind": "" if it.kind == "table" else it.kind,
        "cells": (
            _count(it.rows), _size(it.size), str(it.indexes), _size(it.index_size), _size(it.bloat),
            _age(it.last_vacuum), _age(it.last_analyze),
        ),
        "invalid": it.invalid_indexes,
    }  # fmt: skip


def _url(environment: str, schema: str, name: str) -> str:
    page = "admin:dbops_operation_inspect"
    return reverse(page, args=[environment], query={"schema": schema, "table": name})


def _one_table(environment: str, request: HttpRequest) -> dict[str, Any]:
    schema = request.GET.get("schema") or None
    found = _look(environment, Wish(schema=schema, table=request.GET["table"])).detail
    assert found
    name = visible(qualified(found.table.schema, found.table.name))
    return {
        "title": f"{name} in {environment}",
        "facts": [(label, visible(value)) for label, value in _about(found) if value],
        "sections": [it for it in _sections(environment, found) if it["rows"]],
    }


def _about(it: TableDetail) -> Iterable[tuple[str, str]]:
    whole, summary = it.relation, it.summary
    yield "Kind", summary.kind if summary else "view"
    yield "Comment", whole.comment or ""
    yield "Owner", whole.owner
    yield "Rows", f"about {_count(summary.rows)}" if summary else ""
    yield "Size", _size(whole.heap_size)
    yield "TOAST", _size(whole.toast_size) if whole.toast_size else ""
    yield "Indexes", _size(whole.index_size)
    yield "Bloat", f"about {_size(summary.bloat)}" if summary and summary.bloat else ""
    yield "Partitioned by", whole.partitioned_by or ""
    yield "Partition of", (summary.partition_of if summary else "") or ""
    yield "Bounds", whole.partition_bounds or ""
    yield "Row security", "on" if whole.row_security else ""
    yield "Last vacuum", _age(summary.last_vacuum) if summary else ""
    yield "Last analyse", _age(summary.last_analyze) if summary else ""


def _sections(environment: str, it: TableDetail) -> Iterable[dict[str, Any]]:
    yield _section(
        "Columns", ("Column", "Type", "Null", "Default", "Comment"),
        [
            (c.name, c.type, "yes" if c.nullable else "no", c.filled, c.comment)
            for c in it.columns
        ],
    )  # fmt: skip
    yield _section(
        "Constraints", ("Constraint", "Type", "Definition"),
        [(c.name, c.type, c.definition) for c in it.constraints],
    )  # fmt: skip
    yield _section(
        "Indexes", ("Index", "Size", "Scans", "Definition"),
        [
            (i.name, bytes_text(i.size), count_text(i.scans),
             i.definition + ("" if i.valid else " (invalid)"))
            for i in it.indexes
        ],
    )  # fmt: skip
    yield _section(
        "Triggers", ("Trigger", "When", "Function", "State"),
        [_trigger(trigger) for trigger in it.triggers],
    )  # fmt: skip
    yield _section(
        "Referenced by", ("Table", "Constraint", "Definition"),
        [(qualified(r.schema, r.table), r.name, r.definition) for r in it.referenced_by],
        [_url(environment, r.schema, r.table) for r in it.referenced_by],
    )  # fmt: skip


def _section(
    title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]], urls: list[str] | None = None
) -> dict[str, Any]:
    """One table of the page; the first cell of each row leads to its url."""
    cells = [tuple(visible(str(cell or "")) for cell in row) for row in rows]
    return {
        "title": title, "id": title.lower().replace(" ", "-"), "columns": columns,
        "rows": list(zip(urls or [""] * len(cells), cells, strict=True)),
    }  # fmt: skip


def _trigger(it: TriggerRow) -> tuple[str, ...]:
    state = it.state + (", ours" if it.ours else "")
    return it.name, it.when, qualified(it.function_schema, it.function), state


def _count(number: int | None) -> str:
    return "not known" if number is None else count_text(number)


def _size(number: int | None) -> str:
    return "" if number is None else bytes_text(number)


def _age(moment: datetime | None) -> str:
    return age(moment) if moment else "never"
