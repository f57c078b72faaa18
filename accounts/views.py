"""Signing in by browser."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect


class SignInView(LoginView):
    """The one login page, for the dashboard and the admin alike."""

    template_name = "accounts/login.html"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated:
            # Not on to ``next``: the admin sends people here whom it does not let in, and would
            # get them back for ever.
            if "next" in request.GET:
                messages.error(request, "Your account may not open that page.")
            return redirect(settings.LOGIN_REDIRECT_URL)
        return super().dispatch(request, *args, **kwargs)
