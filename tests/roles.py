"""Somebody of each role, and every address of the console with what it takes to ask for it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import User

ROLES = ("viewer", "operator", "administrator")


def ship_roles() -> None:
    """As the migration does; a test that commits empties every table afterwards."""

    class Editor:
        def __init__(self) -> None:
            self.connection = connection

    importlib.import_module("skinspire.migrations.0001_roles").ship_roles(apps, Editor())


def person(role: str, **more: Any) -> User:
    """``role``: one of the shipped ones, "nothing", or "superuser"."""
    user = User.objects.create_user(f"a-{role}", is_superuser=role == "superuser", **more)
    if role in ROLES:
        user.groups.add(Group.objects.get(name=role))
    return user


@dataclass(frozen=True)
class Endpoint:
    name: str
    """With its namespaces; its pattern, where it has no name."""
    path: str


def endpoints(arguments: dict[str, dict[str, Any]]) -> Iterator[Endpoint]:
    """Every view of the URLconf.

    Args:
        arguments: of its path, by the name of the view, or by "" for all.
    """
    yield from _below(get_resolver(), "", "", arguments)


def _below(
    resolver: URLResolver, namespace: str, prefix: str, arguments: dict[str, dict[str, Any]]
) -> Iterator[Endpoint]:
    for it in resolver.url_patterns:
        pattern = prefix + str(it.pattern)
        if isinstance(it, URLResolver):
            inner = f"{namespace}{it.namespace}:" if it.namespace else namespace
            yield from _below(it, inner, pattern, arguments)
        elif isinstance(it, URLPattern) and it.name:
            name = namespace + it.name
            given = arguments.get("", {}) | arguments.get(name, {})
            wanted = {key: given[key] for key in _names(it)}
            yield Endpoint(name, reverse(name, kwargs=wanted))
        else:
            yield Endpoint(pattern, "")


def _names(pattern: URLPattern) -> list[str]:
    found = getattr(pattern.pattern, "converters", {})
    return list(found) or list(pattern.pattern.regex.groupindex)
