"""Changes of accounts and roles, written down whoever makes them.

Who acted stands in ``created_by``; from where, where a request is at work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save
from django.dispatch import receiver

from accounts.history import record
from accounts.models import AccountEvent, User

_CHANGES = {"post_add": "added", "post_remove": "removed", "pre_clear": "removed"}
_WATCHED = ("username", "email", "is_active", "is_staff", "is_superuser")


@receiver(m2m_changed, sender=User.groups.through)
def note_roles(
    action: str, instance: Any, reverse: bool, pk_set: Any, using: str, **_: Any
) -> None:
    """Of a person, or of a role's people."""
    if action not in _CHANGES:
        return
    if reverse:
        people = _chosen(User, pk_set, instance.user_set, using)
        names = [instance.name]
    else:
        people = [instance]
        names = [role.name for role in _chosen(Group, pk_set, instance.groups, using)]
    for user in people if names else ():
        detail = f"{_CHANGES[action]} {', '.join(names)}"
        _note(using, AccountEvent.Event.ROLES_CHANGED, user, detail)


@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def note_permissions(
    action: str, instance: Any, reverse: bool, pk_set: Any, using: str, **_: Any
) -> None:
    """Of a person or of a role."""
    if action not in _CHANGES or reverse:
        return
    is_person = isinstance(instance, User)
    related = instance.user_permissions if is_person else instance.permissions
    names = sorted(it.codename for it in _chosen(Permission, pk_set, related, using))
    what = f"{_CHANGES[action]} {', '.join(names)}"
    if names:
        _note(
            using,
            AccountEvent.Event.PERMISSIONS_CHANGED,
            instance if is_person else None,
            what if is_person else f"role {instance.name}: {what}",
        )


@receiver(post_delete, sender=Group)
def note_role_deleted(instance: Group, using: str, **_: Any) -> None:
    _note(using, AccountEvent.Event.PERMISSIONS_CHANGED, None, f"role {instance.name} deleted")


@receiver(pre_save, sender=User)
def remember_account(
    instance: User, using: str, raw: bool = False, update_fields: Any = None, **_: Any
) -> None:
    """What it was, to tell afterwards what changed."""
    instance._was = None  # type: ignore[attr-defined]
    touched = update_fields is None or {*_WATCHED, "password"} & set(update_fields)
    if not raw and not instance._state.adding and touched:
        rows = User.objects.using(using).filter(pk=instance.pk).values(*_WATCHED, "password")
        instance._was = rows.first()  # type: ignore[attr-defined]


@receiver(post_save, sender=User)
def note_account(
    instance: User,
    created: bool,
    using: str,
    raw: bool = False,
    update_fields: Any = None,
    **_: Any,
) -> None:
    """A new one, what changed of who it is and may, and that it has another password."""
    was = getattr(instance, "_was", None) or {}
    if created and not raw:
        _note(using, AccountEvent.Event.ACCOUNT_CREATED, instance, _flags(instance))
    saved = [name for name in _WATCHED if update_fields is None or name in update_fields]
    changed = [
        f"{name}: {was[name]} → {getattr(instance, name)}"
        for name in saved
        if was and was[name] != getattr(instance, name)
    ]
    if changed:
        _note(using, AccountEvent.Event.ACCOUNT_CHANGED, instance, "; ".join(changed))
    if was and was["password"] != instance.password and not _is_renewed(instance):
        _note(using, AccountEvent.Event.PASSWORD_CHANGED, instance)


@receiver(post_delete, sender=User)
def note_account_deleted(instance: User, using: str, **_: Any) -> None:
    _note(using, AccountEvent.Event.ACCOUNT_DELETED, instance)


def _is_renewed(user: User) -> bool:
    """The same password, by a hasher of today; ``User.check_password`` says so."""
    return getattr(user, "hash_renewed", False)


def _flags(user: User) -> str:
    return ", ".join(name for name in ("is_staff", "is_superuser") if getattr(user, name))


def _chosen(model: Any, keys: Iterable[Any] | None, related: Any, using: str) -> list[Any]:
    """Those of these keys; all that are related, where the relation is cleared."""
    if keys is None:
        return list(related.all())
    return list(model.objects.using(using).filter(pk__in=keys))


def _note(using: str, event: str, user: User | None, detail: str = "") -> None:
    record(event, user=user, detail=detail, outcome=AccountEvent.Outcome.DONE, using=using)
