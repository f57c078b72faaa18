"""Who may do what in which environment.

A permission of dbops, ``restore``, is for every environment; ``restore_dev`` for one. For views
there is :func:`needs`, for the API :func:`Needs`; both write down on the view what they ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission

from skinspire.environment import ENVIRONMENTS


def may(user: Any, permission: str, environment: str) -> bool:
    """Whether somebody may do it in this environment.

    Args:
        permission: ``app.codename``, without an environment; "" for what nobody may.
    """
    if not permission or not user.is_active:
        return False
    one = f"{permission}_{environment}"
    return bool(user.has_perm(permission) or (environment and user.has_perm(one)))


def may_somewhere(user: Any, permission: str) -> bool:
    """Whether there is an environment somebody may do it in."""
    return any(may(user, permission, name) for name in ENVIRONMENTS)


def names_of(permissions: Iterable[Permission]) -> set[str]:
    """``app.codename`` of each."""
    return {f"{it.content_type.app_label}.{it.codename}" for it in permissions}


def covers(user: Any, permissions: set[str]) -> bool:
    """Whether somebody may all of these; what is for every environment is for each as well."""
    if user.is_superuser and user.is_active:
        return True
    own = user.get_all_permissions()
    return all(it in own or _without_environment(it) in own for it in permissions)


def _without_environment(permission: str) -> str:
    for name in ENVIRONMENTS:
        if permission.endswith(f"_{name}"):
            return permission.removesuffix(f"_{name}")
    return permission


class Deeds:
    """For templates: ``{% if may.restore %}``, in whichever environment."""

    def __init__(self, user: Any) -> None:
        self._user = user

    def __getitem__(self, codename: str) -> bool:
        return may_somewhere(self._user, f"dbops.{codename}")


def _of_view(kwargs: dict[str, Any], environment: str) -> str:
    return environment or str(kwargs.get("environment", ""))


def _allows(user: Any, permission: str, environment: str) -> bool:
    return may(user, permission, environment) if environment else may_somewhere(user, permission)


def needs(permission: str, environment: str = "") -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a view: strangers go to the login page, others without the permission get 403.

    Args:
        environment: "" for the one named in the URL, else for any.
    """

    def decorate(view: Callable[..., Any]) -> Any:
        @wraps(view)
        def asked(request: Any, *args: Any, **kwargs: Any) -> Any:
            if not _allows(request.user, permission, _of_view(kwargs, environment)):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        asked.needs = permission  # type: ignore[attr-defined]
        return login_required(asked)

    return decorate


def Needs(permission: str, environment: str = "") -> type[BasePermission]:
    """The same as a permission class of an API view."""

    class Needed(BasePermission):
        needs = permission

        def has_permission(self, request: Any, view: Any) -> bool:
            return bool(request.user and request.user.is_authenticated) and _allows(
                request.user, permission, _of_view(view.kwargs, environment)
            )

    return Needed
