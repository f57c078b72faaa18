"""Lists of records in the admin."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db import DataError
from django.http import HttpRequest


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

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LenientList
