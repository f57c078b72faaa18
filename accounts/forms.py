"""What people are asked on the pages of accounts."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import (
    AuthenticationForm,
    BaseUserCreationForm,
    PasswordChangeForm,
    PasswordResetForm,
    UserCreationForm,
)
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest
from django.template import loader

from accounts import mails
from accounts.admission import RETRY_SECONDS, Crowded, one_of_few
from accounts.models import AccountEvent, Door, User
from accounts.signing_in import SignInRefused, authenticate_person


class SignInForm(AuthenticationForm):
    """Name and password, by the one check both doors share. Keeps the name, never the password."""

    request: HttpRequest
    remember = forms.BooleanField(required=False)
    retry_after: int | None = None
    """Seconds to wait, where the refusal was one of the limits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        days = settings.ACCOUNT_REMEMBER_DAYS
        self.fields["remember"].label = f"Stay signed in for {days} days"
        if not days:
            del self.fields["remember"]

    def clean(self) -> dict[str, Any]:
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if name and password:
            self.user_cache = self.check(name, password)
        return self.cleaned_data

    def check(self, name: str, password: str) -> User:
        """Who it is. ValidationError with the one sentence of all refusals."""
        return check_person(self, self.request, name, password)


def check_person(form: Any, request: HttpRequest, name: str, password: str) -> User:
    """Whose name and password it is; ``form.retry_after`` is set where a limit refused it.

    Raises:
        ValidationError: with the one sentence of all refusals.
    """
    try:
        with one_of_few():
            return authenticate_person(request, name, password, Door.BROWSER)
    except Crowded:
        form.retry_after = RETRY_SECONDS
        raise ValidationError("Many sign in at this moment. Try again.") from None
    except SignInRefused as refused:
        form.retry_after = refused.retry_after
        raise ValidationError(str(refused)) from None


class ConfirmForm(SignInForm):
    """The password once more, of who is signed in already."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields.pop("username")
        self.fields.pop("remember", None)
        self.fields["password"].widget.attrs["autofocus"] = True

    def clean(self) -> dict[str, Any]:
        if password := self.cleaned_data.get("password"):
            self.user_cache = self.check(self.request.user.get_username(), password)
        return self.cleaned_data


class ChangeForm(PasswordChangeForm):
    """A new password by the old one, which is guessed here no more often than anywhere else."""

    request: HttpRequest
    retry_after: int | None = None

    def clean_old_password(self) -> str:
        given = str(self.cleaned_data["old_password"])
        if check_person(self, self.request, self.user.get_username(), given) != self.user:
            raise ValidationError(self.error_messages["password_incorrect"])
        return given


class CodeForm(forms.Form):
    """A code of the authenticator, or a recovery code."""

    code = forms.CharField(
        label="Code",
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "autocapitalize": "none", "autofocus": True,
                   "spellcheck": "false"}
        ),
    )  # fmt: skip


class RegisterForm(UserCreationForm):
    """An account of one's own. What makes somebody more than anybody is no field of it."""

    class Meta(BaseUserCreationForm.Meta):
        model = User
        fields = ("username", "first_name", "last_name")

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        """``email`` is the one invited, which is not asked for."""
        super().__init__(*args, **kwargs)
        self.fields["username"].help_text = "Letters, digits and @ . + - _"
        self.fields["password2"].help_text = ""
        self.instance.email = email


class AskForm(forms.Form):
    """Where the link goes by which somebody registers."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=200,
        widget=forms.EmailInput(attrs={"autocomplete": "email", "autofocus": True}),
    )


class ResetForm(PasswordResetForm):
    """Asks for a link. Says the same whether there is an account."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._request = kwargs.get("request")
        mails.later(partial(super().save, *args, **kwargs))

    def get_users(self, email: str) -> Any:
        """Those who get one: few in an hour, so that nobody's mailbox can be filled."""
        for user in super().get_users(email):
            if mails.may_ask(user):
                mails.note(AccountEvent.Event.RESET_REQUESTED, user, self._request)
                yield user

    def send_mail(
        self, subject_template_name: str, email_template_name: str, context: dict[str, Any],
        from_email: str | None, to_email: str, html_email_template_name: str | None = None,
    ) -> None:  # fmt: skip
        """A slow mail server keeps no other link waiting."""
        subject = "".join(loader.render_to_string(subject_template_name, context).splitlines())
        body = loader.render_to_string(email_template_name, context)
        mails.send_later(EmailMultiAlternatives(subject, body, from_email, [to_email]))
