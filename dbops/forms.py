"""What the console asks before it can say what will happen."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.conf import settings

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
    """A backup out of the catalogue, told by what people know of it; the whole ones first."""

    def __init__(self) -> None:
        super().__init__(
            Backup.objects.order_by("partial", "-created_at"),
            label="Which backup?",
            empty_label="Choose a backup",
        )

    def label_from_instance(self, obj: Any) -> str:
        size = bytes_text(obj.size) + (", partial" if obj.partial else "")
        return f"{obj.environment}, {age(obj.created_at)}, {size}: {obj.name}"


class TablesField(forms.CharField):
    """Names of tables, one per line or separated by commas, as a list of ``schema.table``."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocapitalize": "none"})
        super().__init__(required=False, max_length=10_000, widget=widget, **kwargs)

    def clean(self, value: Any) -> list[str]:
        names = [name.strip() for name in re.split(r"[,\n]", super().clean(value))]
        named = [name if "." in name else f"public.{name}" for name in names if name]
        for name in named:
            if "" in name.split(".", 1):
                raise forms.ValidationError(f"{name[:80]} is no table: write schema.table.")
        return list(dict.fromkeys(named))


class UnmaskedField(forms.BooleanField):
    """Knowing leave to let a protected environment's data out as it is."""

    def __init__(self, otherwise: str) -> None:
        super().__init__(
            label="Without masking",
            required=False,
            help_text=f"Personal data of a protected environment arrives readable. {otherwise}",
        )


class PatternsField(forms.CharField):
    """Patterns of tables, separated by commas or blanks, as a list."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.TextInput(attrs={"spellcheck": "false", "autocapitalize": "none"})
        super().__init__(required=False, max_length=1_000, widget=widget, **kwargs)

    def clean(self, value: Any) -> list[str]:
        return [part for part in re.split(r"[,\s]+", super().clean(value)) if part]


class OperationForm(forms.Form):
    """What all of them share."""

    required_css_class = "required"
    folded: tuple[str, ...] = ()
    """Fields few people need."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not settings.DBOPS_ALLOW_UNMASKED:  # nobody can give leave; the policy says so itself
            self.fields.pop("unmasked", None)
        backup = self.fields.get("backup")
        if isinstance(backup, BackupField) and not Backup.objects.exists():
            backup.empty_label = "There is no backup yet"

    @property
    def asked(self) -> list[forms.BoundField]:
        """The fields everybody answers."""
        return [field for field in self if field.name not in self.folded]

    @property
    def more(self) -> list[forms.BoundField]:
        """The fields that are folded away."""
        return [self[name] for name in self.folded]

    @property
    def is_unfolded(self) -> bool:
        """True where something stands in a folded field, or is wrong with it."""
        return any(field.value() or field.errors for field in self.more)

    def wanted(self) -> Wanted:
        """What a valid form asks for."""
        raise NotImplementedError

    def require_leave(self, kind: str, source: str, target: str, options: dict[str, Any]) -> None:
        """Make it an error of the form where protected data would travel without leave."""
        origin = policy.unmasked_origin(kind, source, target, options)
        if origin and "unmasked" in self.fields and not self.cleaned_data.get("unmasked"):
            self.add_error(
                "unmasked",
                f"Personal data of {origin} would arrive in {target} unmasked. Tick this if that "
                f"is what you want.",
            )


def _leave(cleaned: Mapping[str, Any]) -> dict[str, Any]:
    return {"unmasked": True} if cleaned.get("unmasked") else {}


class BackUpForm(OperationForm):
    source = EnvironmentField(label="Which database?")

    def wanted(self) -> Wanted:
        return Wanted(Operation.Kind.BACKUP, source=self.cleaned_data["source"])


class RestoreForm(OperationForm):
    backup = BackupField()
    target = EnvironmentField(label="Restore it into")
    unmasked = UnmaskedField("Needed for its backups: they are not masked.")
    tables = TablesField(
        label="Only these tables",
        help_text="One per line or separated by commas, as schema.table; the rest of the database "
        "stays as it is.",
    )
    no_owner = forms.BooleanField(
        label="Everything belongs to the connecting role",
        required=False,
        help_text="For a server that lacks the roles of the backup (--no-owner). Grants to roles "
        "that are missing are left out.",
    )
    skip_privileged = forms.BooleanField(
        label="Leave out what only a superuser can restore",
        required=False,
        help_text="Event triggers and the like (--skip-privileged).",
    )
    folded = ("tables", "no_owner", "skip_privileged")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        backup, target = cleaned.get("backup"), cleaned.get("target")
        if backup and target:
            self.require_leave(Operation.Kind.RESTORE, "", target, {"name": backup.name})
        if backup and backup.partial and cleaned.get("tables") == []:
            self.add_error("tables", "This backup is partial: name the tables to restore from it.")
        return cleaned

    def wanted(self) -> Wanted:
        cleaned = self.cleaned_data
        options = {name: cleaned[name] for name in self.folded if cleaned[name]}
        return Wanted(
            Operation.Kind.RESTORE,
            target=cleaned["target"],
            options={"name": cleaned["backup"].name} | options | _leave(cleaned),
        )


class VerifyForm(OperationForm):
    """Restored aside it stays with its own environment, so that nothing travels unmasked."""

    backup = BackupField()
    full = forms.BooleanField(
        label="Restore it aside and compare (full)",
        required=False,
        help_text="The proof that it can be restored. It takes as long as a restore, and as much "
        "room on the server, but nothing is replaced.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        backup = cleaned.get("backup")
        if backup and backup.partial and cleaned.get("full"):
            self.add_error("full", "This backup is partial: only its checksum can be verified.")
        return cleaned

    def wanted(self) -> Wanted:
        backup, full = self.cleaned_data["backup"], self.cleaned_data["full"]
        return Wanted(
            Operation.Kind.VERIFY,
            target=backup.environment if full else "",
            options={"name": backup.name} | ({"full": True} if full else {}),
        )


class CopyForm(OperationForm):
    source = EnvironmentField(label="Copy from")
    target = EnvironmentField(label="Copy into")
    unmasked = UnmaskedField("Otherwise it is masked on the way.")
    part = forms.ChoiceField(
        label="What",
        required=False,
        choices=[
            ("", "everything"),
            ("schema", "the schema: the target keeps its own rows"),
            ("data", "the rows: the target keeps its own schema"),
        ],
        widget=forms.RadioSelect,
    )
    preserve = PatternsField(
        label="Tables that keep the target's rows",
        help_text="Patterns, such as accounts_* for its own logins.",
    )
    exclude = PatternsField(
        label="Tables that arrive empty", help_text="Patterns, such as public.audit_*."
    )
    mask = forms.BooleanField(
        label="Mask",
        required=False,
        help_text="Also where the source is not protected.",
    )
    drop_misfits = forms.BooleanField(
        label="Leave out rows that do not fit the schema",
        required=False,
        help_text="Otherwise they stop the copy and are told table by table.",
    )
    folded = ("part", "preserve", "exclude", "mask", "drop_misfits")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        source = cleaned.get("source")
        if source and source == cleaned.get("target"):
            self.add_error("target", "Choose two different environments.")
        if cleaned.get("mask") and cleaned.get("unmasked"):
            self.add_error("unmasked", "With or without masking: tick one of the two.")
        return cleaned

    def wanted(self) -> Wanted:
        cleaned = self.cleaned_data
        options = {name: cleaned[name] for name in self.folded if cleaned[name]}
        return Wanted(
            Operation.Kind.COPY,
            cleaned["source"],
            cleaned["target"],
            {"strategy": "auto"} | options | _leave(cleaned),
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
