"""Operations, backups and the journal: looked at here, written only by operations."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from dbops.admin import actions
from dbops.admin.inspection import InspectionView
from dbops.admin.presentation import (
    age,
    bytes_text,
    holdings_text,
    moment_text,
    pill,
    proof_text,
    result_rows,
    seconds_text,
)
from dbops.admin.progress import can_undo, waiting_hint
from dbops.exceptions import BackupInvalidError
from dbops.models import Backup, JournalEntry, Operation, Schedule
from skinspire.lists import ListedLeniently
from skinspire.permissions import may, may_somewhere

LINES_SHOWN = 500


class ReadOnlyAdmin(ListedLeniently, admin.ModelAdmin):
    """Nothing is added, changed or deleted by hand."""

    actions = None
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def details(self, request: HttpRequest, record: Any) -> dict[str, Any]:
        """What the page of one record shows beside its fields."""
        return {}

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        record = self.get_object(request, object_id)
        context = {**(extra_context or {}), **(self.details(request, record) if record else {})}
        return super().change_view(request, object_id, form_url, context)


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
        return f"{operation.get_kind_display()} {operation.route}".rstrip()

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
            path("verify/", actions.VerifyView.as_view(), name=name("verify")),
            path("triggers/", actions.TriggersView.as_view(), name=name("triggers")),
            path("inspect/<str:environment>/", InspectionView.as_view(), name=name("inspect")),
            path("<str:operation_id>/undo/", actions.UndoView.as_view(), name=name("undo")),
            path("<str:operation_id>/cancel/", actions.CancelView.as_view(), name=name("cancel")),
            path(
                "<str:operation_id>/progress/",
                actions.ProgressView.as_view(),
                name=name("progress"),
            ),
        ]
        return ours + super().get_urls()

    def details(self, request: HttpRequest, record: Operation) -> dict[str, Any]:
        return _details(request, record)


def _details(request: HttpRequest, operation: Operation) -> dict[str, Any]:
    may_again = may(request.user, actions.PERMISSIONS.get(operation.kind, ""), operation.target)
    sees_backups = request.user.has_perm("dbops.view_backup")
    newest = list(operation.log_lines.order_by("-pk")[:LINES_SHOWN])
    return {
        "title": f"{operation.get_kind_display()} {operation.route}".rstrip(),
        "subtitle": None,
        "operation": operation,
        "state": pill(operation.status),
        "lines": newest[::-1],
        "options": result_rows({key: it for key, it in operation.options.items() if it}),
        "rows": result_rows(operation.result, sees_backups=sees_backups),
        "took": seconds_text(operation.seconds),
        "hint": waiting_hint(operation),
        "may_undo": may_again and can_undo(operation),
        "way_back": way_back(operation) if may_again else "",
    }


def way_back(operation: Operation) -> str:
    """Where to put back the tables it replaced, which only a backup keeps; "" where it did not."""
    saved, tables = operation.result.get("saved_as"), operation.options.get("tables")
    if operation.kind != Operation.Kind.RESTORE or not saved or not tables:
        return ""
    return _prefilled("restore", backup=saved, target=operation.target, tables="\n".join(tables))


class ProofFilter(admin.SimpleListFilter):
    """How a backup was last verified; Django's own filter would not offer "never"."""

    title = "verified"
    parameter_name = "verified_how"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*Backup.Verification.choices, ("never", "not yet")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Backup]) -> QuerySet[Backup]:
        how = self.value()
        if how == "never":
            return queryset.filter(verified_at=None)
        return queryset.filter(verified_how=how) if how else queryset


@admin.register(Backup)
class BackupAdmin(ReadOnlyAdmin):
    title = "Backups"
    list_display = ("name", "of", "made", "stored", "verified", "marks")
    list_filter = ("environment", ProofFilter, "pinned", "encrypted", "partial")
    search_fields = ("name", "actor")
    date_hierarchy = "created_at"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backup]:
        failed = Operation.objects.filter(
            kind=Operation.Kind.VERIFY, error_code=BackupInvalidError.code
        ).annotate(backup=KT("options__name"))
        found_damaged = Exists(failed.filter(backup=OuterRef("name")))
        return super().get_queryset(request).annotate(found_damaged=found_damaged)

    def get_list_display(self, request: HttpRequest) -> Any:
        deeds = [kind for kind in _DEEDS if may_somewhere(request.user, actions.PERMISSIONS[kind])]
        return (*super().get_list_display(request), *deeds)

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
    def verified(self, backup: Backup) -> SafeString | str:
        if not is_damaged(backup):
            return format_html('<span class="words">{}</span>', proof_text(backup) or "not yet")
        return format_html('<strong class="bad">{}</strong>', "found damaged")

    @admin.display(description="Marks")
    def marks(self, backup: Backup) -> SafeString:
        tags = ((mark,) for mark in _MARKS if getattr(backup, mark))
        return format_html_join(" ", '<span class="tag">{}</span>', tags)

    @admin.display(description="")
    def restore(self, backup: Backup) -> SafeString:
        return format_html('<a href="{}">Restore</a>', _prefilled("restore", backup=backup.name))

    @admin.display(description="")
    def verify(self, backup: Backup) -> SafeString:
        return format_html('<a href="{}">Verify</a>', _prefilled("verify", backup=backup.name))

    def get_urls(self) -> list[URLPattern]:
        views = {"pin": actions.PinView, "download": actions.DownloadView}
        own = [
            path(f"<str:name>/{word}/", view.as_view(), name=f"dbops_backup_{word}")
            for word, view in views.items()
        ]
        return [*own, *super().get_urls()]

    def details(self, request: HttpRequest, record: Backup) -> dict[str, Any]:
        leave = may(request.user, "dbops.download_backup", record.environment)
        return _facts(record) | {"may_download": leave}


_DEEDS = (Operation.Kind.RESTORE, Operation.Kind.VERIFY)
_MARKS = ("encrypted", "pinned", "partial")


def is_damaged(backup: Any) -> bool:
    """True where a verification found it damaged, and none since then found it right."""
    return backup.found_damaged and backup.verified_at is None


def _prefilled(action: str, **values: str) -> str:
    return reverse(f"admin:dbops_operation_{action}", query=values)


def _facts(backup: Backup) -> dict[str, Any]:
    known = Operation.objects.filter(pk=backup.operation).exists()
    return {
        "title": f"Backup of {backup.environment}",
        "subtitle": None,
        "backup": backup,
        "environment": pill(backup.environment),
        "marks": [mark for mark in _MARKS if getattr(backup, mark)],
        "made": moment_text(backup.created_at),
        "holds": holdings_text(backup),
        "proof": proof_text(backup),
        "damaged": is_damaged(backup),
        "operation": backup.operation if known else "",
        "restore_url": _prefilled("restore", backup=backup.name),
        "verify_url": _prefilled("verify", backup=backup.name),
    }


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    title = "Schedules"
    list_display = ("id", "what", "cron", "next_due_at", "last_run_at", "ended", "created_by")
    list_filter = ("kind",)
    list_select_related = ("last_operation",)

    @admin.display(description="Operation", ordering="kind")
    def what(self, schedule: Schedule) -> str:
        return f"{schedule.get_kind_display()} {schedule.where}"

    @admin.display(description="Last run")
    def ended(self, schedule: Schedule) -> SafeString | str:
        if not schedule.last_status:
            return ""
        told = pill(schedule.last_status)
        if schedule.last_operation is None or schedule.last_error:
            return format_html('{} <span class="words">{}</span>', told, schedule.last_error)
        url = reverse(actions.OPERATION_PAGE, args=[schedule.last_operation.pk])
        return format_html('<a href="{}">{}</a>', url, told)


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
