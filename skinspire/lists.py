"""Lists of records in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db import DataError
from django.http import HttpRequest
from django.utils.text import capfirst


class LenientList(ChangeList):
    """An address that asks for what no column can hold, like the year 0, gets what Django answers
    to any other odd filter: the list with an error, and not a failure of ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Builds the query, and asks it how many there are."""
        try:
            super().__init__(*args, **kwargs)
        except (ValueError, OverflowError, DataError) as error:
            raise IncorrectLookupParameters from error


class ListedLeniently:
    """Before ``ModelAdmin`` among the bases."""

    title = ""
    """Of the list; "" for what its records are called."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        title = self.title or capfirst(self.model._meta.verbose_name_plural)  # type: ignore[attr-defined]
        context = {"title": title, **(extra_context or {})}
        return super().changelist_view(request, context)  # type: ignore[misc]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LenientList
