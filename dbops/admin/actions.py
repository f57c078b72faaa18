"""The actions and the undo: ask, show what will happen, and only then submit."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from dbops import downloads, policy, pruning, runner, tasks
from dbops.admin.preview import preview
from dbops.admin.progress import UNDOABLE, progress_json
from dbops.exceptions import ConfirmationError, DbopsError, PolicyError
from dbops.forms import (
    BackUpForm,
    ConfirmationForm,
    CopyForm,
    OperationForm,
    RestoreForm,
    TriggersForm,
    VerifyForm,
    Wanted,
)
from dbops.models import Backup, Operation
from skinspire.permissions import may, may_somewhere

OPERATION_PAGE = "admin:dbops_operation_change"
PERMISSIONS: dict[str, str] = {
    Operation.Kind.BACKUP: "dbops.back_up",
    Operation.Kind.RESTORE: "dbops.restore",
    Operation.Kind.COPY: "dbops.copy",
    Operation.Kind.TRIGGERS: "dbops.apply_triggers",
    Operation.Kind.VERIFY: "dbops.verify_backup",
}


def may_see_operations(user: Any) -> bool:
    """Whoever may start one may see what became of it."""
    return bool(user.has_module_perms("dbops"))


@method_decorator(never_cache, name="dispatch")
class PermittedView(PermissionRequiredMixin, View):
    """Strangers go to the login page, whoever lacks the permission gets 403."""

    request: HttpRequest

    def has_permission(self) -> bool:
        user = self.request.user
        # Strangers first: what an address names is not even looked for.
        return user.is_authenticated and all(
            may_somewhere(user, it) for it in self.get_permission_required()
        )

    def require(self, *environments: str) -> None:
        """
        Raises:
            PermissionDenied: this person may not do it in one of them.
        """
        for permission in self.get_permission_required():
            if not all(may(self.request.user, permission, name) for name in environments):
                raise PermissionDenied


class ActionView(PermittedView):
    """GET asks. POST shows what will happen. POST with ``confirm`` submits it."""

    kind: str
    title: str
    button: str
    intention: str
    form_class: type[OperationForm]
    http_method_names = ("get", "head", "post")

    def get_permission_required(self) -> tuple[str, ...]:
        return (PERMISSIONS[self.kind],)

    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return self._ask(self.form_class(initial=request.GET.dict()))

    def post(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        form = self.form_class(request.POST)
        return self._answer(form) if form.is_valid() else self._ask(form)

    def _answer(self, form: forms.Form) -> HttpResponse:
        wanted = self._wanted(form)
        self.require(*_concerned(wanted))
        if "confirm" not in self.request.POST:
            return self._show(form, wanted, ConfirmationForm())
        confirmation = ConfirmationForm(self.request.POST)
        if not confirmation.is_valid():
            return self._show(form, wanted, confirmation)
        return self._submit(form, wanted, confirmation)

    def _wanted(self, form: forms.Form) -> Wanted:
        assert isinstance(form, OperationForm)
        return form.wanted()

    def _submit(
        self, form: forms.Form, wanted: Wanted, confirmation: ConfirmationForm
    ) -> HttpResponse:
        try:
            operation = tasks.submit_and_enqueue(
                wanted.kind, source=wanted.source, target=wanted.target, options=wanted.options,
                actor=self.request.user.get_username(), door="admin",
                confirm=confirmation.cleaned_data["typed"],
                request_key=str(confirmation.cleaned_data["request_key"]),
            )  # fmt: skip
        except ConfirmationError:
            confirmation.add_error("typed", f"Type {wanted.target} to confirm.")
            return self._show(form, wanted, confirmation)
        except PolicyError:
            return self._show(form, wanted, confirmation)  # and there it is refused again
        return redirect(OPERATION_PAGE, operation.pk)

    def _ask(self, form: forms.Form) -> HttpResponse:
        return self._page("form", form=form)

    def _show(
        self, form: forms.Form, wanted: Wanted, confirmation: ConfirmationForm
    ) -> HttpResponse:
        return self._page(
            "confirm", form=form, wanted=wanted, confirmation=confirmation,
            preview=preview(wanted), destructive=policy.is_destructive(wanted.kind),
            needs_typed_name=policy.needs_typed_name(wanted.kind, wanted.target),
        )  # fmt: skip

    def _page(self, name: str, **context: Any) -> HttpResponse:
        context |= {"title": self.title, "button": self.button, "intention": self.intention}
        context |= admin.site.each_context(self.request)
        return TemplateResponse(self.request, f"admin/dbops/operation/action_{name}.html", context)


def _concerned(wanted: Wanted) -> set[str]:
    """Where somebody needs the permission: where it happens (to a backup alone: where that was
    made), and where rows come from unmasked."""
    origin = policy.unmasked_origin(wanted.kind, wanted.source, wanted.target, wanted.options)
    place = wanted.target or wanted.source or _origin_of(wanted.options["name"])
    return {name for name in (place, origin) if name}


def _origin_of(backup: str) -> str:
    return str(Backup.objects.values_list("environment", flat=True).get(name=backup))


class BackUpView(ActionView):
    kind = Operation.Kind.BACKUP
    title = "Back up a database"
    button = "Back up"
    intention = "Everything it holds at this moment, as one verified file."
    form_class = BackUpForm


class RestoreView(ActionView):
    kind = Operation.Kind.RESTORE
    title = "Restore a backup"
    button = "Restore"
    intention = "It is loaded beside the database, proven, and only then replaces what is there."
    form_class = RestoreForm


class VerifyView(ActionView):
    kind = Operation.Kind.VERIFY
    title = "Verify a backup"
    button = "Verify"
    intention = "Is it what was written, and can it be restored? The catalogue keeps the answer."
    form_class = VerifyForm


class CopyView(ActionView):
    kind = Operation.Kind.COPY
    title = "Copy a database"
    button = "Copy"
    intention = "One environment's database takes the place of another's."
    form_class = CopyForm


class TriggersView(ActionView):
    kind = Operation.Kind.TRIGGERS
    title = "Apply triggers"
    button = "Apply triggers"
    intention = "From then on the database itself notes when a row changed and who changed it."
    form_class = TriggersForm


class UndoView(ActionView):
    """Put back what an operation replaced. Nothing is asked, so GET shows what would happen."""

    title = "Undo"
    button = "Undo"
    intention = "The replaced database returns; what it displaces is kept in turn."
    form_class = OperationForm

    def get_permission_required(self) -> tuple[str, ...]:
        # Whoever may replace a database in this way may also put the old one back.
        return (PERMISSIONS[self._operation.kind],)

    @property
    def _operation(self) -> Operation:
        return get_object_or_404(Operation, pk=self.kwargs["operation_id"], kind__in=UNDOABLE)

    def get(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        form = self.form_class()
        self.require(self._operation.target)
        return self._show(form, self._wanted(form), ConfirmationForm())

    def post(self, request: HttpRequest, **kwargs: str) -> HttpResponse:
        return self._answer(self.form_class(request.POST))

    def _wanted(self, form: forms.Form) -> Wanted:
        operation = self._operation
        return Wanted(
            Operation.Kind.UNDO, target=operation.target, options={"operation": operation.pk}
        )


class SeeingView(PermittedView):
    """For whoever may see operations."""

    def has_permission(self) -> bool:
        return may_see_operations(self.request.user)


class ProgressView(SeeingView):
    """What the operation's page asks every second."""

    http_method_names = ("get", "head")

    def get(self, request: HttpRequest, operation_id: str) -> JsonResponse:
        operation = get_object_or_404(Operation, pk=operation_id)
        after = request.GET.get("after", "0")[:18]
        return JsonResponse(progress_json(operation, int(after) if after.isdecimal() else 0))


class CancelView(PermittedView):
    """Ask an operation to stop."""

    permission_required = "dbops.cancel"
    http_method_names = ("post",)

    def post(self, request: HttpRequest, operation_id: str) -> HttpResponse:
        operation = get_object_or_404(Operation, pk=operation_id)
        self.require(operation.target or operation.source)
        if operation.is_active:
            runner.request_cancel(operation, actor=request.user.get_username())
            messages.info(request, "Asked to stop; the target stays as it was.")
        else:
            messages.warning(request, "It had ended already.")
        return redirect(OPERATION_PAGE, operation.pk)


class PinView(PermittedView):
    """Pin a backup, so that pruning never deletes it, or unpin it."""

    permission_required = "dbops.pin_backup"
    http_method_names = ("post",)

    def post(self, request: HttpRequest, name: str) -> HttpResponse:
        backup = get_object_or_404(Backup, pk=name)
        self.require(backup.environment)
        pinned = request.POST.get("pinned") == "yes"
        try:
            pruning.set_pinned(backup.name, pinned, actor=request.user.get_username())
        except DbopsError as error:
            messages.error(request, f"{error} {error.hint}".strip())
        else:
            may = "never deletes it" if pinned else "may delete it in its time"
            messages.success(request, f"{'Pinned' if pinned else 'Unpinned'}: pruning {may}.")
        return redirect("admin:dbops_backup_change", quote(backup.pk))


class DownloadView(PermittedView):
    """Send a backup's file as it is stored."""

    http_method_names = ("post",)

    def has_permission(self) -> bool:
        """Asked below, where a refusal is written down."""
        return self.request.user.is_authenticated

    def post(self, request: HttpRequest, name: str) -> HttpResponseBase:
        backup = get_object_or_404(Backup, pk=name)
        actor = request.user.get_username()
        if not may(request.user, "dbops.download_backup", backup.environment):
            downloads.refuse(backup.name, actor=actor, why="permission")
            raise PermissionDenied
        try:
            download = downloads.open_download(backup.name, actor=actor)
        except DbopsError as error:
            messages.error(request, f"{error} {error.hint}".strip())
            return redirect("admin:dbops_backup_change", quote(backup.pk))
        digest = b64encode(bytes.fromhex(download.manifest.sha256)).decode()
        headers = {
            "Content-Disposition": f'attachment; filename="{backup.name}"',
            "Content-Length": str(download.manifest.size),
            "Repr-Digest": f"sha-256=:{digest}:",  # RFC 9530
        }
        return StreamingHttpResponse(
            download.chunks, content_type="application/octet-stream", headers=headers
        )
