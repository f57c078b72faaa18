"""Changing one's password, and choosing a new one by a link."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.contrib.auth.views import (
    INTERNAL_RESET_SESSION_TOKEN,
    PasswordChangeView,
    PasswordResetConfirmView,
    PasswordResetView,
)
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from accounts import browser, mails, second_factor
from accounts.forms import ChangeForm, ResetForm
from accounts.limits import forget_guesses
from accounts.models import User
from accounts.sessions import keeping
from accounts.views import LimitedFormView


class _Links(PasswordResetTokenGenerator):
    """Links that open in the environment they were made in: others may share its SECRET_KEY, and
    hold a copy of the account."""

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{settings.ENVIRONMENT.name}"


_SAME_FOR_ALL = (
    "If an account has this address, a link is on its way to it. It opens once, and for an hour."
)


@method_decorator(never_cache, name="dispatch")
class ChangeView(LimitedFormView, PasswordChangeView):
    """The own password; this session stays, all others end. It is a recent proof only where a
    password is all there is to prove."""

    template_name = "accounts/password.html"
    form_class = ChangeForm
    success_url = reverse_lazy("accounts:sessions")

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)
        form.request = self.request
        return form

    def form_valid(self, form: Any) -> HttpResponse:
        with keeping(self.request.account_session):  # type: ignore[attr-defined]
            form.save()
        update_session_auth_hash(self.request, form.user)
        if not second_factor.has_second_factor(form.user):
            browser.prove(self.request)
        messages.success(self.request, "The password is changed. All other sessions have ended.")
        return redirect(self.get_success_url())


@method_decorator(never_cache, name="dispatch")
class ResetView(PasswordResetView):
    """Asks for a link. The answer is the same whoever asks, and takes as long."""

    template_name = "accounts/reset.html"
    form_class = ResetForm
    token_generator = _Links()
    subject_template_name = "accounts/mail/reset_subject.txt"
    email_template_name = "accounts/mail/reset.txt"
    success_url = reverse_lazy("accounts:login")

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        messages.success(self.request, _SAME_FOR_ALL)
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"can_send": mails.can_send()}


@method_decorator(never_cache, name="dispatch")
class NewPasswordView(PasswordResetConfirmView):
    """Where the link leads. It is used up by the password it sets; all sessions end."""

    template_name = "accounts/new_password.html"
    token_generator = _Links()
    success_url = reverse_lazy("accounts:login")

    def form_valid(self, form: Any) -> HttpResponse:
        token = self.request.session[INTERNAL_RESET_SESSION_TOKEN]
        with transaction.atomic():  # once, also for two at once: the second sees the first's
            user = User.objects.select_for_update(no_key=True).get(pk=form.user.pk)
            if not self.token_generator.check_token(user, token):
                self.validlink = False
                return self.render_to_response(self.get_context_data())
            answer = super().form_valid(form)
        forget_guesses(form.user)  # the owner's mailbox says that this is he
        messages.success(self.request, "The password is changed. Sign in with it.")
        return answer
