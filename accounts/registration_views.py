"""Registering: by invitation, by anybody, or not at all (``ACCOUNT_REGISTRATION``)."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.generic import FormView

from accounts.forms import RegisterForm
from accounts.invitations import InvitationOver, find_open, register
from accounts.models import Invitation


@method_decorator(never_cache, name="dispatch")
class RegisterView(FormView):
    """With a link that still opens, or without one where anybody may."""

    template_name = "accounts/register.html"
    form_class = RegisterForm
    extra_context = {"title": "Your account"}
    invitation: Invitation | None = None

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        way = settings.ACCOUNT_REGISTRATION
        if way == "off" or ("token" not in kwargs and way != "open"):
            raise Http404
        if request.user.is_authenticated:
            messages.warning(request, "You have an account. Sign out to register another one.")
            return redirect(settings.LOGIN_REDIRECT_URL)
        if "token" in kwargs:
            self.invitation = find_open(kwargs["token"])
            if self.invitation is None:
                return self._over()
        return super().dispatch(request, *args, **kwargs)

    def _over(self) -> HttpResponse:
        title = "This invitation is over"
        return render(self.request, "accounts/invitation_over.html", {"title": title}, status=410)

    def get_form_kwargs(self) -> dict[str, Any]:
        email = self.invitation.email if self.invitation else ""
        return super().get_form_kwargs() | {"email": email}

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
