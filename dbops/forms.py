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


class UnmaskedField(forms.BooleanField):
    """Knowing leave to let a protected environment's data out as it is."""

    def __init__(self) -> None:
        super().__init__(
            label="Without masking",
            required=False,
            help_text="Needed to take a protected environment's data elsewhere: personal data "
            "arrives readable.",
        )


class OperationForm(forms.Form):
    """What all four share."""

    required_css_class = "required"

    def wanted(self) -> Wanted:
        """What a valid form asks for."""
        raise NotImplementedError

    def require_leave(self, kind: str, source: str, target: str, options: dict[str, Any]) -> None:
        """Make it an error of the form where protected data would travel without leave."""
        origin = policy.unmasked_origin(kind, source, target, options)
        if origin and not self.cleaned_data.get("unmasked"):
            self.add_error(
                "unmasked",
                f"Personal data of {origin} would arrive in {target} unmasked. Tick this if that "
                f"is what you want.",
            )


def _leave(cleaned: Mapping[str, Any]) -> dict[str, Any]:
    return {"unmasked": True} if cleaned["unmasked"] else {}


class BackUpForm(OperationForm):
    source = EnvironmentField(label="Which database?")

    def wanted(self) -> Wanted:
        return Wanted(Operation.Kind.BACKUP, source=self.cleaned_data["source"])


class RestoreForm(OperationForm):
    backup = BackupField(label="Which backup?")
    target = EnvironmentField(label="Restore it into")
    unmasked = UnmaskedField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["backup"]
        assert isinstance(field, BackupField)
        if not Backup.objects.filter(partial=False).exists():
            field.empty_label = "There is no backup yet"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        backup, target = cleaned.get("backup"), cleaned.get("target")
        if backup and target:
            self.require_leave(Operation.Kind.RESTORE, "", target, {"name": backup.name})
        return cleaned

    def wanted(self) -> Wanted:
        options = {"name": self.cleaned_data["backup"].name}
        return Wanted(
            Operation.Kind.RESTORE,
            target=self.cleaned_data["target"],
            options=options | _leave(self.cleaned_data),
        )


class CopyForm(OperationForm):
    source = EnvironmentField(label="Copy from")
    target = EnvironmentField(label="Copy into")
    unmasked = UnmaskedField()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        source, target = cleaned.get("source"), cleaned.get("target")
        if source and source == target:
            self.add_error("target", "Choose two different environments.")
        self.require_leave(Operation.Kind.COPY, source or "", target or "", {})
        return cleaned

    def wanted(self) -> Wanted:
        options = {"strategy": "auto"} | _leave(self.cleaned_data)
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
