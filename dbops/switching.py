"""Changing the active environment, and insisting on one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from dbops import conf, journal, policy
from dbops.environments import (
    EnvironmentState,
    Source,
    environment_states,
    naming_sources,
    next_environment,
    shown_url,
)
from dbops.exceptions import (
    ConfigurationError,
    ConfirmationError,
    OtherEnvironmentError,
    PolicyError,
)
from dbops.operations.guards import require_own_stamp
from dbops.postgres.process import Child
from skinspire.environment import NewFile, UnknownEnvironment, normalize_environment

RESTART = "Consoles and workers that run now stay where they are until they are restarted."


@dataclass(frozen=True)
class Switched:
    """What a switch came to."""

    environment: str
    source: str
    url: str
    previous: str
    changed: bool
    notes: tuple[str, ...]


def switch_environment(name: str, *, actor: str, confirm: str = "") -> Switched:
    """Make ``name`` the environment of the processes that start from now on.

    Args:
        name: dev, test or prod.
        confirm: what the user typed for a protected one.

    Raises:
        ConfirmationError: it is protected and its name was not typed. OtherEnvironmentError: a
            variable decides before the file. StampError: its database is another environment's.
        ConfigurationError: the settings cannot be understood.
    """
    found = naming_sources()
    before = next_environment(found) or "unknown"
    if before == name and _file_says(name):
        return _switched(name, before, changed=False, notes=())
    try:
        notes = (*_check_switch(name, before, found, confirm), *_obstacles(name, before), RESTART)
    except PolicyError as error:
        journal.record("refused", actor=actor, kind="switch", target=name, reason=str(error))
        raise
    with NewFile(Path(settings.SKINSPIRE_HOME), name) as file:
        journal.record("environment switched", actor=actor, **{"from": before, "to": name})
        file.put_in_place()
    return _switched(name, before, changed=True, notes=notes)


def _file_says(name: str) -> bool:
    """Whether the file names it already."""
    says = next((it.says for it in naming_sources() if it.origin == "switch_env"), "")
    try:
        return normalize_environment(says) == name
    except UnknownEnvironment:
        return False


def _switched(name: str, before: str, *, changed: bool, notes: tuple[str, ...]) -> Switched:
    source = next((it.name for it in naming_sources() if it.decides), "")
    return Switched(name, source, shown_url(name), before, changed, notes)


def _check_switch(name: str, before: str, found: tuple[Source, ...], confirm: str) -> Iterator[str]:
    """Refuse what must not be; what else is worth knowing is yielded."""
    error = settings.CONFIGURATION_ERROR
    if error and error[0] != "dbops.E001":
        raise ConfigurationError(error[1], hint="python manage.py check")
    first = found[0] if found else None
    if first and first.says and before != name:
        raise OtherEnvironmentError(
            f"{first.name} is set ({first.origin}) and decides before switch_env: a switch to "
            f"{name} would have no effect.",
            hint=f"Remove it first (unset {first.name}), or set it to {name} itself.",
        )
    if policy.is_protected(name) and before != name and confirm != name:
        raise ConfirmationError(
            f"{name} is protected: switching to it needs its name typed.",
            hint=f"If you mean it: --confirm {name}",
        )
    yield from _check_database(name)
    if first and first.says:
        yield f"{first.name} is set ({first.origin}) and names {name} as well."


def _obstacles(name: str, before: str) -> Iterator[str]:
    """What would keep every other command from running there: it may be mended afterwards."""
    if before == name:
        return
    manage = str(settings.BASE_DIR / "manage.py")
    argv = [sys.executable, manage, "check", "--tag=security"]
    environment = dict(os.environ) | {"SKINSPIRE_ENV": name}
    with Child(argv, environment=environment, cwd=settings.BASE_DIR) as child:
        b"".join(child.read())
        child.wait(allowed=(0, 1))
        found = sorted(set(re.findall(r"\((\w+\.E\d+)\)", child.stderr)))
    if found:
        yield (
            f"Nothing else runs in {name} before its settings are mended ({', '.join(found)}): "
            f"python manage.py check. Back: python manage.py switch_env {before}"
        )


def _check_database(name: str) -> Iterator[str]:
    (state,) = environment_states((name,))
    require_own_stamp(state.stamp, name, state.url)
    if not state.reachable:
        # Nothing is written by a switch, and whoever starts a server may want to be there first.
        yield f"The database of {name} cannot be reached now: {state.problem}"
    elif state.stamp is None:
        yield f"The database of {name} bears no stamp yet: python manage.py init_db --env {name}"


def require_environment(name: str) -> EnvironmentState:
    """The active environment, where it is ``name`` by the settings and by its database.

    Raises:
        OtherEnvironmentError: it is not; the sentence has every difference.
    """
    if settings.CONFIGURATION_ERROR:
        raise ConfigurationError(settings.CONFIGURATION_ERROR[1], hint="python manage.py check")
    active = conf.active_environment()
    (state,) = environment_states((active,))
    differences = list(_differences(name, state))
    if differences:
        raise OtherEnvironmentError(
            f"Expected {name}, but {'; '.join(differences)}.",
            hint="See why: python manage.py switch_env --status",
            result=running_json(state) | {"expected": name, "differences": differences},
        )
    return state


def _differences(name: str, state: EnvironmentState) -> Iterator[str]:
    if state.name != name:
        yield f"the environment is {state.name} (by {settings.ENVIRONMENT.source})"
    if not state.reachable:
        yield f"the database of {state.name} cannot be reached: {state.problem.rstrip('.')}"
    elif state.stamp is None:
        yield f"the database {state.url} bears no stamp"
    elif state.stamp != name:
        yield f"the database {state.url} is stamped {state.stamp}"


def running_json(state: EnvironmentState) -> dict[str, Any]:
    """The environment this process runs in."""
    source = settings.ENVIRONMENT.source
    return {"environment": state.name, "source": source, "url": state.url, "stamp": state.stamp}
