"""Setting the second factor up, renewing its recovery codes, and taking it away."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import second_factor
from accounts.forms import CodeForm

_PAGE = "accounts:second_factor"


@never_cache
@login_required
@require_safe
def state(request: HttpRequest) -> HttpResponse:
    """Whether there is one."""
    context = {
        "title": "Second factor",
        "is_set": second_factor.has_second_factor(request.user),
        "is_needed": second_factor.needs_second_factor(request.user),
        "codes_left": second_factor.codes_left(request.user),
    }
    return render(request, "accounts/second_factor.html", context)


@login_required
@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    """Make a secret and show it."""
    second_factor.begin(request.user)  # type: ignore[arg-type]
    return redirect("accounts:second_factor_set_up")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def set_up(request: HttpRequest) -> HttpResponse:
    """The secret as a picture, and the first code."""
    device = second_factor.begun(request.user)
    if device is None:
        return redirect(_PAGE)
    form = CodeForm(request.POST or None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            codes = second_factor.finish(request, form.cleaned_data["code"])
        except second_factor.TooManyCodes as error:
            form.add_error(None, str(error))
            status = 429
        else:
            if codes:
                return _show(request, codes)
            form.add_error("code", "That is not the code of this moment. Is the clock right?")
    context = {
        "title": "Set up the second factor",
        "form": form,
        "picture": second_factor.picture(device),
        "secret": second_factor.typed(device),
    }
    return render(request, "accounts/second_factor_set_up.html", context, status=status)


@never_cache
@login_required
@require_POST
def renew_codes(request: HttpRequest) -> HttpResponse:
    """New recovery codes; the old ones open nothing any more."""
    if not second_factor.has_second_factor(request.user):
        return redirect(_PAGE)
    return _show(request, second_factor.new_recovery_codes(request))


def _show(request: HttpRequest, codes: list[str]) -> HttpResponse:
    context = {"title": "Recovery codes", "codes": codes}
    return render(request, "accounts/recovery_codes.html", context)


@login_required
@require_POST
def remove(request: HttpRequest) -> HttpResponse:
    """Take it away, where the role does not need it."""
    if second_factor.needs_second_factor(request.user):
        messages.error(request, "Your role needs a second factor: set up another one instead.")
    else:
        second_factor.remove(request.user, request)
        messages.success(request, "The second factor is removed.")
    return redirect(_PAGE)
