"""Operations, backups and the journal: looked at here, written only by operations."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dbops.admin import actions
from dbops.admin.presentation import age, bytes_text, pill, result_rows, seconds_text
from dbops.admin.progress import can_undo, waiting_hint
from dbops.models import Backup, JournalEntry, Operation

LINES_SHOWN = 500


class ReadOnlyAdmin(admin.ModelAdmin):
    """Nothing is added, changed or deleted by hand."""

    actions = None
    title = ""
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, {"title": self.title, **(extra_context or {})})


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    title = "Operations"
    list_display = ("what", "state", "actor", "door", "started", "took")
    list_filter = ("status", "kind", "target", "door")
    search_fields = ("id", "actor", "source", "target", "error")
    date_hierarchy = "created_at"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return actions.may_see_operations(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    @admin.display(description="Operation", ordering="kind")
    def what(self, operation: Operation) -> str:
        return f"{operation.get_kind_display()} {operation.route}"

    @admin.display(description="Status", ordering="status")
    def state(self, operation: Operation) -> SafeString:
        return pill(operation.status)

    @admin.display(description="Started", ordering="created_at")
    def started(self, operation: Operation) -> Any:
        return operation.started_at or operation.created_at

    @admin.display(description="Took")
    def took(self, operation: Operation) -> str:
        return seconds_text(operation.seconds)

    def get_urls(self) -> list[URLPattern]:
        name = "dbops_operation_{}".format
        ours = [
            path("backup/", actions.BackUpView.as_view(), name=name("backup")),
            path("restore/", actions.RestoreView.as_view(), name=name("restore")),
            path("copy/", actions.CopyView.as_view(), name=name("copy")),
            path("triggers/", actions.TriggersView.as_view(), name=name("triggers")),
            path("<str:operation_id>/undo/", actions.UndoView.as_view(), name=name("undo")),
            path("<str:operation_id>/cancel/", actions.CancelView.as_view(), name=name("cancel")),
            path(
                "<str:operation_id>/progress/",
                actions.ProgressView.as_view(),
                name=name("progress"),
            ),
        ]
        return ours + super().get_urls()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        operation = self.get_object(request, object_id)
        context = {**(extra_context or {}), **(_details(request, operation) if operation else {})}
        return super().change_view(request, object_id, form_url, context)


def _details(request: HttpRequest, operation: Operation) -> dict[str, Any]:
    permission = actions.PERMISSIONS.get(operation.kind, "")
    newest = list(operation.log_lines.order_by("-pk")[:LINES_SHOWN])
    return {
        "title": f"{operation.get_kind_display()} {operation.route}",
        "subtitle": None,
        "operation": operation,
        "state": pill(operation.status),
        "lines": newest[::-1],
        "rows": result_rows(operation.result),
        "took": seconds_text(operation.seconds),
        "hint": waiting_hint(operation),
        "may_undo": request.user.has_perm(permission) and can_undo(operation),
    }


@admin.register(Backup)
class BackupAdmin(ReadOnlyAdmin):
    title = "Backups"
    list_display = ("name", "of", "made", "stored", "verified")
    list_filter = ("environment", "partial")
    search_fields = ("name", "actor")
    date_hierarchy = "created_at"

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = super().get_list_display(request)
        return (*shown, "restore") if request.user.has_perm("dbops.restore") else shown

    @admin.display(description="Environment", ordering="environment")
    def of(self, backup: Backup) -> SafeString:
        return pill(backup.environment)

    @admin.display(description="Size", ordering="size")
    def stored(self, backup: Backup) -> str:
        return bytes_text(backup.size)

    @admin.display(description="Made", ordering="created_at")
    def made(self, backup: Backup) -> str:
        return age(backup.created_at)

    @admin.display(description="Verified", ordering="verified_at")
    def verified(self, backup: Backup) -> str:
        return age(backup.verified_at) if backup.verified_at else "not yet"

    @admin.display(description="")
    def restore(self, backup: Backup) -> SafeString | str:
        if backup.partial:
            return "partial"
        url = reverse("admin:dbops_operation_restore", query={"backup": backup.name})
        return format_html('<a href="{}">Restore</a>', url)


@admin.register(JournalEntry)
class JournalEntryAdmin(ReadOnlyAdmin):
    title = "Journal"
    list_display = ("sequence", "at", "event", "about", "actor")
    list_filter = ("event",)
    search_fields = ("operation", "actor", "event")
    date_hierarchy = "at"
    ordering = ("-sequence",)

    @admin.display(description="Operation", ordering="operation")
    def about(self, entry: JournalEntry) -> SafeString | str:
        if not entry.operation:
            return ""
        url = reverse(actions.OPERATION_PAGE, args=[entry.operation])
        return format_html('<a href="{}">{}</a>', url, entry.operation)
