"""The dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from dbops import conf, policy
from dbops.admin.actions import PERMISSIONS, may_see_operations
from dbops.admin.presentation import age, bytes_text, count_text, proof_text, seconds_text
from dbops.admin.preview import inspect_request, is_allowed
from dbops.environments import report
from dbops.exceptions import ConfigurationError
from dbops.models import Backup, Operation
from dbops.operations.inspection import EnvironmentFacts, inspect_environments
from skinspire.environment import ENVIRONMENTS
from skinspire.permissions import may

RECENT = 12


@never_cache
@login_required
@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    """A card per environment, and what was done last."""
    sees = may_see_operations(request.user)
    context = {
        "title": "Databases",
        "cards": [_card(facts, request.user) for facts in _facts()] if sees else [],
        "sees_operations": sees,
        "recent": [_row(each) for each in Operation.objects.all()[:RECENT]] if sees else [],
    }
    return render(request, "dbops/dashboard.html", context)


@never_cache
@login_required
@require_safe
def environments(request: HttpRequest) -> HttpResponse:
    """What ``switch_env --status`` and ``show_db_config`` say, for staff."""
    if not may_see_operations(request.user):
        raise PermissionDenied
    return render(request, "dbops/environments.html", {"title": "Environment", "report": report()})


def _facts() -> list[EnvironmentFacts]:
    try:
        return inspect_environments([inspect_request(name) for name in ENVIRONMENTS])
    except ConfigurationError as error:
        sentence = f"{error} {error.hint}"
        return [EnvironmentFacts(name, "embedded server", sentence) for name in ENVIRONMENTS]


@dataclass(frozen=True)
class Card:
    """One environment as the dashboard shows it."""

    facts: EnvironmentFacts
    active: bool
    protected: bool
    size: str
    tables: str
    backup: Backup | None
    backup_age: str
    proof: str
    """When and how a backup of it was last verified; "" for never."""
    running: Operation | None
    last: Operation | None
    last_age: str
    actions: frozenset[str]
    """Kinds this person may start here and this console allows."""


def _card(facts: EnvironmentFacts, user: Any) -> Card:
    name = facts.environment
    backups = Backup.objects.filter(environment=name, partial=False)
    backup = backups.first()
    proven = backups.exclude(verified_at=None).order_by("-verified_at").first()
    operations = Operation.objects.filter(Q(source=name) | Q(target=name))
    last = operations.exclude(status__in=Operation.ACTIVE).first()
    return Card(
        facts=facts,
        active=name == conf.active_environment(),
        protected=policy.is_protected(name),
        size=bytes_text(facts.size),
        tables=count_text(facts.tables),
        backup=backup,
        backup_age=age(backup.created_at) if backup else "",
        proof=proof_text(proven),
        running=operations.filter(status__in=Operation.ACTIVE).first(),
        last=last,
        last_age=age(last.created_at) if last else "",
        actions=frozenset(
            str(kind)
            for kind, permission in PERMISSIONS.items()
            if may(user, permission, name) and is_allowed(kind, name)
        ),
    )


def _row(operation: Operation) -> dict[str, Any]:
    return {
        "operation": operation,
        "age": age(operation.created_at),
        "took": seconds_text(operation.seconds),
    }
