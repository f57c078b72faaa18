"""Signing in and out by browser, and one's own sessions."""

from __future__ import annotations

import time
from typing import Any

import humanize
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django.views.generic import FormView

from accounts import browser, second_factor
from accounts.devices import describe
from accounts.forms import CodeForm, ConfirmForm, SignInForm
from accounts.middleware import local_page
from accounts.models import Door, Session, User
from accounts.sessions import SessionRefused, end_session, end_sessions_of

PENDING = "pending_sign_in"
_PENDING_SECONDS = 300
_REFUSED = "This account cannot sign in at this moment."


class LimitedFormView(FormView):
    """A form whose refusals may be a limit: then the answer is 429 and tells how long."""

    def form_invalid(self, form: Any) -> HttpResponse:
        response = super().form_invalid(form)
        wait = getattr(form, "retry_after", None)
        if wait is not None:
            response.status_code = 429
            response.headers["Retry-After"] = str(wait)
        return response


class SignInView(LimitedFormView, LoginView):
    """The one login page, for the dashboard and the admin alike."""

    template_name = "accounts/login.html"
    form_class = SignInForm
    extra_context = {"title": "Sign in"}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            # Not on to ``next``: the admin sends people here whom it does not let in, and would
            # get them back for ever.
            if "next" in request.GET:
                messages.error(request, "Your account may not open that page.")
            return redirect(settings.LOGIN_REDIRECT_URL)
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        user, remember = form.get_user(), bool(form.cleaned_data.get("remember"))
        if second_factor.has_second_factor(user):
            return self._ask_for_code(user, remember)
        try:
            browser.sign_in(self.request, user, remember=remember)
        except SessionRefused:
            form.add_error(None, _REFUSED)
            return self.form_invalid(form)
        return redirect(self.get_success_url())

    def _ask_for_code(self, user: User, remember: bool) -> HttpResponse:
        session = self.request.session
        session.cycle_key()  # whoever knew the old key must not go on from here
        session[PENDING] = {
            "user": str(user.pk),
            "hash": user.get_session_auth_hash(),
            "remember": remember,
            "at": int(time.time()),
        }
        page = self.get_redirect_url()
        query = f"?{urlencode({REDIRECT_FIELD_NAME: page})}" if page else ""
        return redirect(reverse("accounts:code") + query)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        return context | {"may_register": settings.ACCOUNT_REGISTRATION == "open"}


@method_decorator(never_cache, name="dispatch")
class CodeView(LimitedFormView):
    """The second step, of accounts that have a second factor."""

    template_name = "accounts/code.html"
    form_class = CodeForm
    extra_context = {"title": "Second step"}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self._user = self._waiting()
        if self._user is None:
            messages.warning(request, "That took too long. Sign in again.")
            return redirect(settings.LOGIN_URL)
        return super().dispatch(request, *args, **kwargs)

    def _waiting(self) -> User | None:
        """Whose password was right a moment ago, and still is."""
        pending = self.request.session.get(PENDING)
        if not pending or time.time() - pending["at"] > _PENDING_SECONDS:
            return None
        user = User.objects.filter(pk=pending["user"], is_active=True).first()
        return user if user and user.get_session_auth_hash() == pending["hash"] else None

    def form_valid(self, form: Any) -> HttpResponse:
        assert self._user is not None
        if not code_opens(self._user, form, self.request):
            return self.form_invalid(form)
        remember = self.request.session.pop(PENDING)["remember"]
        try:
            browser.sign_in(self.request, self._user, remember=remember, second_factor=True)
        except SessionRefused:
            messages.error(self.request, _REFUSED)
            return redirect(settings.LOGIN_URL)
        return redirect(next_page(self.request))


def code_opens(user: User, form: Any, request: HttpRequest) -> bool:
    """Whether the code of a form is right; where not, the form says so."""
    try:
        code = form.cleaned_data["code"]
        if second_factor.check_code(user, code, door=Door.BROWSER, request=request):
            return True
    except second_factor.TooManyCodes as error:
        form.retry_after = error.retry_after
        form.add_error(None, str(error))
    else:
        form.add_error("code", "That is not the code of this moment, or it was used already.")
    return False


def next_page(request: HttpRequest) -> str:
    """Where the form leads on to: a page of this console, else the dashboard."""
    wanted = request.POST.get(REDIRECT_FIELD_NAME, request.GET.get(REDIRECT_FIELD_NAME))
    return local_page(request, wanted) or reverse(settings.LOGIN_REDIRECT_URL)


@method_decorator([never_cache, login_required], name="dispatch")
class ConfirmView(LimitedFormView):
    """A recent proof of who sits here, before what destroys."""

    template_name = "accounts/confirm.html"
    form_class = ConfirmForm
    extra_context = {"title": "Is it you?"}

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"request": self.request}

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        if second_factor.has_second_factor(self.request.user):
            form.fields["code"] = CodeForm.base_fields["code"]
        return form

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if user != self.request.user:
            form.add_error(None, _REFUSED)
            return self.form_invalid(form)
        if "code" in form.fields and not code_opens(user, form, self.request):
            return self.form_invalid(form)
        self.request.session.cycle_key()
        browser.prove(self.request)
        return redirect(next_page(self.request))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"next": next_page(self.request)}


@never_cache
@login_required
@require_safe
def sessions(request: HttpRequest) -> HttpResponse:
    """Where one is signed in, by which door, since when."""
    here = request.account_session  # type: ignore[attr-defined]
    own = Session.objects.active().filter(user=here.user).order_by("-last_seen_at")
    rows = [
        {
            "session": it,
            "device": describe(it.device),
            "here": it == here,
            "seen": humanize.naturaltime(timezone.now() - it.last_seen_at),
        }
        for it in own
    ]
    rows.sort(key=lambda row: not row["here"])
    context = {"title": "Your sessions", "rows": rows, "others": len(rows) - 1}
    return render(request, "accounts/sessions.html", context)


@login_required
@require_POST
def end_one(request: HttpRequest, sid: str) -> HttpResponse:
    """End a session of one's own; of somebody else's nothing is known here."""
    here = request.account_session  # type: ignore[attr-defined]
    session = get_object_or_404(Session, pk=sid, user=here.user)
    if session == here:
        return redirect("accounts:sessions")  # that is what signing out is for
    ended = end_session(session, "ended_by_user", session.user, request)
    messages.success(request, "The session is ended." if ended else "It had ended already.")
    return redirect("accounts:sessions")


@login_required
@require_POST
def end_others(request: HttpRequest) -> HttpResponse:
    """End all sessions but this one."""
    here = request.account_session  # type: ignore[attr-defined]
    ended = end_sessions_of(here.user, "ended_by_user", here.user, keep=here.pk, request=request)
    messages.success(request, f"{ended} ended." if ended else "There was no other session.")
    return redirect("accounts:sessions")
