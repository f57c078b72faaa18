"""Registering: by invitation, by anybody, or not at all (``ACCOUNT_REGISTRATION``)."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import FormView

from accounts import mails
from accounts.forms import AskForm, RegisterForm
from accounts.invitations import InvitationOver, ask, find_open, register
from accounts.models import Invitation

_ON_ITS_WAY = "A link is on its way to this address. It opens once, and for some days."


class _WithoutAccount(FormView):
    """For who has none."""

    ways: tuple[str, ...]
    """The settings under which there is such a page."""
    extra_context = {"title": "Your account"}

    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if settings.ACCOUNT_REGISTRATION not in self.ways:
            raise Http404
        if request.user.is_authenticated:
            messages.warning(request, "You have an account. Sign out to register another one.")
            return redirect(settings.LOGIN_REDIRECT_URL)
        return self.refusal(**kwargs) or super().dispatch(request, *args, **kwargs)

    def refusal(self, **kwargs: Any) -> HttpResponse | None:
        """What answers instead of the form, if anything."""
        return None


class AskView(_WithoutAccount):
    """Asks for a link, where anybody may. The answer is the same whoever asks."""

    ways = ("open",)
    template_name = "accounts/ask.html"
    form_class = AskForm
    success_url = reverse_lazy("accounts:login")

    def form_valid(self, form: Any) -> HttpResponse:
        if mails.can_send():
            mails.later(partial(ask, form.cleaned_data["email"], self.request))
        messages.success(self.request, _ON_ITS_WAY)
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"can_send": mails.can_send()}


class RegisterView(_WithoutAccount):
    """Where the link leads."""

    ways = ("open", "invitation")
    template_name = "accounts/register.html"
    form_class = RegisterForm
    invitation: Invitation

    def refusal(self, **kwargs: Any) -> HttpResponse | None:
        invitation = find_open(kwargs["token"])
        if invitation is None:
            return self._over()
        self.invitation = invitation
        return None

    def _over(self) -> HttpResponse:
        title = "This invitation is over"
        return render(self.request, "accounts/invitation_over.html", {"title": title}, status=410)

    def get_form_kwargs(self) -> dict[str, Any]:
        return super().get_form_kwargs() | {"email": self.invitation.email}

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            register(form.save(commit=False), self.invitation, self.request)
        except InvitationOver:
            return self._over()
        except IntegrityError:  # somebody took the name at this moment
            form.add_error(None, "This name or address cannot be used.")
            return self.form_invalid(form)
        messages.success(self.request, "Your account is ready. Sign in.")
        return redirect(settings.LOGIN_URL)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs) | {"invitation": self.invitation}
