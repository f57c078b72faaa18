"""The account history in the admin: looked at, searched, taken along as a file; never changed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from accounts.models import AccountEvent
from skinspire.lists import ListedLeniently

_COLUMNS = (
    "at", "event", "outcome", "username", "created_by", "door", "address", "device", "session",
    "detail",
)  # fmt: skip
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula."""


class ReadOnlyAdmin(ListedLeniently, admin.ModelAdmin):
    """Nothing is added, changed or deleted by hand."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class EventFilter(admin.SimpleListFilter):
    """What happened; the column has no choices that Django could offer."""

    title = "event"
    parameter_name = "event"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(AccountEvent.Event.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(event=self.value()) if self.value() else queryset


@admin.register(AccountEvent)
class AccountEventAdmin(ReadOnlyAdmin):
    title = "Account history"
    list_display = (
        "at", "what", "outcome", "username", "address", "door", "detail", "created_by",
    )  # fmt: skip
    list_filter = (EventFilter, "outcome", "door", ("at", admin.DateFieldListFilter))
    search_fields = ("username", "created_by")
    search_help_text = "A name, or an address."
    date_hierarchy = "at"
    ordering = ("-at", "-pk")
    actions = ("export",)

    @admin.display(description="Event", ordering="event")
    def what(self, row: AccountEvent) -> str:
        return str(dict(AccountEvent.Event.choices).get(row.event, row.event))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """An address is looked for as one: PostgreSQL finds no text in it."""
        try:
            return queryset.filter(address=str(ip_address(search_term.strip()))), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    @admin.action(permissions=["view"], description="Export as CSV")
    def export(self, request: HttpRequest, rows: QuerySet[AccountEvent]) -> StreamingHttpResponse:
        """What is chosen, while it is read."""
        found = rows.order_by("at", "pk").values_list(*_COLUMNS).iterator(chunk_size=500)
        name = f"account-history-{timezone.now():%Y%m%d-%H%M%S}.csv"
        return StreamingHttpResponse(
            _lines(found),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class _Echo:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> str:
        return line


def _lines(rows: Iterator[tuple[Any, ...]]) -> Iterator[str]:
    writer = csv.writer(_Echo(), quoting=csv.QUOTE_ALL)
    yield writer.writerow(_COLUMNS)
    for row in rows:
        yield writer.writerow([_harmless(value) for value in row])


def _harmless(value: Any) -> str:
    """As text that no spreadsheet computes: a client chooses what it calls itself."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULAS) or text[:1] in _FORMULAS else text
