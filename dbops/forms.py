"""What the console asks before it can say what will happen."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms

from dbops import policy
from dbops.admin.presentation import age, bytes_text
from dbops.models import Backup, Operation
from skinspire.environment import ENVIRONMENTS

_CHOICES = [(name, name) for name in ENVIRONMENTS]


@dataclass(frozen=True)
class Wanted:
    """An operation as a form asks for it."""

    kind: str
    source: str = ""
    target: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class EnvironmentField(forms.ChoiceField):
    """One of dev, test and prod."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=_CHOICES, widget=forms.RadioSelect, **kwargs)


class BackupField(forms.ModelChoiceField):
    """A whole backup out of the catalogue, told by what people know of it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            Backup.objects.filter(partial=False), empty_label="Choose a backup", **kwargs
        )

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.environment}, {age(obj.created_at)}, {bytes_text(obj.size)}: {obj.name}"


class OperationForm(forms.Form):
    """What all four share."""

    required_css_class = "required"

    def wanted(self) -> Wanted:
        """What a valid form asks for."""
        raise NotImplementedError


class BackUpForm(OperationForm):
    source = EnvironmentField(label="Which database?")

    def wanted(self) -> Wanted:
        return Wanted(Operation.Kind.BACKUP, source=self.cleaned_data["source"])


class RestoreForm(OperationForm):
    backup = BackupField(label="Which backup?")
    target = EnvironmentField(label="Restore it into")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["backup"]
        assert isinstance(field, BackupField)
        if not Backup.objects.filter(partial=False).exists():
            field.empty_label = "There is no backup yet"

    def wanted(self) -> Wanted:
        return Wanted(
            Operation.Kind.RESTORE,
            target=self.cleaned_data["target"],
            options={"name": self.cleaned_data["backup"].name},
        )


class CopyForm(OperationForm):
    source = EnvironmentField(label="Copy from")
    target = EnvironmentField(label="Copy into")
    unmasked = forms.BooleanField(
        label="Without masking",
        required=False,
        help_text="Needed to copy a protected environment: personal data arrives readable.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        source, target = cleaned.get("source"), cleaned.get("target")
        if source and source == target:
            self.add_error("target", "Choose two different environments.")
        if source and policy.is_protected(source) and not cleaned.get("unmasked"):
            self.add_error(
                "unmasked",
                f"A copy of {source} would carry personal data unmasked. Tick this if that is "
                f"what you want.",
            )
        return cleaned

    def wanted(self) -> Wanted:
        options: dict[str, Any] = {"strategy": "auto"}
        if self.cleaned_data["unmasked"]:
            options["unmasked"] = True
        return Wanted(
            Operation.Kind.COPY,
            self.cleaned_data["source"],
            self.cleaned_data["target"],
            options,
        )


class TriggersForm(OperationForm):
    target = EnvironmentField(label="Which database?")

    def wanted(self) -> Wanted:
        return Wanted(Operation.Kind.TRIGGERS, target=self.cleaned_data["target"])


class ConfirmationForm(forms.Form):
    """The answer to the confirmation page.

    ``request_key`` is made when the page is: a double click, or the same form sent again, is the
    same operation.
    """

    request_key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    typed = forms.CharField(
        required=False,
        strip=True,
        max_length=20,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )
