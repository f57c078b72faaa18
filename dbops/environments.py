"""Which environment is active and why, how it is changed, and what every setting says.

Nothing here is secret: URLs are masked, and of other secrets is only told whether they are set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import Tags, run_checks

from dbops import conf, journal, policy
from dbops.exceptions import (
    ConfigurationError,
    ConfirmationError,
    OtherEnvironmentError,
    PolicyError,
    StampError,
)
from dbops.operations.inspection import EnvironmentFacts, InspectRequest, inspect_environments
from skinspire.databases import EMBEDDED
from skinspire.environment import (
    ENVIRONMENTS,
    NewFile,
    UnknownEnvironment,
    normalize_environment,
    sources,
)
from skinspire.known import KNOWN, Variable
from skinspire.masked import HIDDEN, mask_url
from skinspire.variables import env

_PRIVATE = re.compile(r"PRIVATE KEY|AGE-SECRET-KEY", re.IGNORECASE)
RESTART = "Consoles and workers that run now stay where they are until they are restarted."


@dataclass(frozen=True)
class Source:
    """One place that may name the environment."""

    name: str
    says: str
    """"" where it says nothing."""
    origin: str
    decides: bool

    @property
    def title(self) -> str:
        """For people: the file's path says less than what wrote it."""
        return "File of switch_env" if self.origin == "switch_env" else self.name


@dataclass(frozen=True)
class EnvironmentState:
    """One environment: where it is by the settings, and what was found there."""

    name: str
    url: str
    origin: str
    active: bool
    protected: bool
    reachable: bool
    problem: str
    """Why it cannot be reached; "" where it can."""
    stamp: str | None

    @property
    def misstamped(self) -> bool:
        """True where the database says it is another environment's."""
        return self.stamp is not None and self.stamp != self.name


@dataclass(frozen=True)
class Setting:
    """One variable as it may be shown."""

    name: str
    value: str
    origin: str
    what: str


@dataclass(frozen=True)
class Report:
    """What this process runs with."""

    environment: str
    source: str
    url: str
    sources: tuple[Source, ...]
    next: str
    """The environment a process started now would run in; "" where it would find none."""
    dotenv: str
    """The file of variables that was read; "" where there is none."""
    environments: tuple[EnvironmentState, ...]
    settings: tuple[Setting, ...]
    problems: tuple[tuple[str, str, str], ...]
    """(check id, sentence, hint)."""


@dataclass(frozen=True)
class Switched:
    """What a switch came to."""

    environment: str
    source: str
    url: str
    previous: str
    changed: bool
    notes: tuple[str, ...]


def report(environment: str = "") -> Report:
    """Everything ``switch_env --status``, ``show_db_config`` and the console show.

    Args:
        environment: leave the databases of the others out.
    """
    found = _sources()
    names = (environment,) if environment else ENVIRONMENTS
    hidden = {
        it.name
        for it in KNOWN
        if it.is_url and it.name.partition("_")[0].lower() in set(ENVIRONMENTS) - set(names)
    }
    return Report(
        environment=settings.ENVIRONMENT.name,
        source=settings.ENVIRONMENT.source,
        url=shown_url(conf.active_environment()),
        sources=found,
        next=_next(found),
        dotenv=str(env.file or ""),
        environments=environment_states(names),
        settings=tuple(_setting(each) for each in KNOWN if each.name not in hidden),
        problems=tuple(
            (str(it.id), str(it.msg), str(it.hint or "")) for it in run_checks(tags=[Tags.security])
        ),
    )


def _sources() -> tuple[Source, ...]:
    """As they stand at this moment: the file may say something else than when we started."""
    try:
        found = sources(Path(settings.SKINSPIRE_HOME), env.ENVIRON)
    except (OSError, UnicodeDecodeError):
        return ()
    deciding = next((name for name, says in found if says), "")
    origins = {"SKINSPIRE_ENV", "DJANGO_ENV"}
    return tuple(
        Source(name, says[:40], env.origin(name) if name in origins else "switch_env",
               name == deciding)
        for name, says in found
    )  # fmt: skip


def _next(found: tuple[Source, ...]) -> str:
    says = next((it.says for it in found if it.decides), "dev")
    try:
        return normalize_environment(says)
    except UnknownEnvironment:
        return ""


def environment_states(names: tuple[str, ...] = ENVIRONMENTS) -> tuple[EnvironmentState, ...]:
    """Look at the databases of these environments, all at once."""
    requests, unknown = [], {}
    for name in names:
        try:
            params = conf.database_params(name, while_unknown=True)
            requests.append(InspectRequest(name, params))
        except ConfigurationError as error:
            unknown[name] = EnvironmentFacts(name, "", str(error))
    facts = {it.environment: it for it in inspect_environments(requests)} | unknown
    return tuple(_state(facts[name]) for name in names)


def _state(facts: EnvironmentFacts) -> EnvironmentState:
    name = facts.environment
    return EnvironmentState(
        name=name,
        url=shown_url(name),
        origin=env.origin(f"{name.upper()}_DATABASE_URL"),
        active=name == conf.active_environment(),
        protected=policy.is_protected(name),
        reachable=facts.reachable,
        problem=facts.problem,
        stamp=facts.stamp,
    )


def shown_url(environment: str) -> str:
    """The masked URL of an environment, or where the embedded server has its database."""
    given = env.read.get(f"{environment.upper()}_DATABASE_URL", "")
    if given:
        return mask_url(given)
    configured = settings.DATABASES.get(environment, {})
    if not configured.get(EMBEDDED):
        return ""
    return f"embedded server, database {configured['NAME']}"


def _setting(variable: Variable) -> Setting:
    origin = env.origin(variable.name)
    value = _value(variable, origin) or variable.empty
    return Setting(variable.name, value, origin, variable.what)


def _value(variable: Variable, origin: str) -> str:
    """ "" where nothing was given and nothing stands in its place."""
    given = env.read.get(variable.name) or env.ENVIRON.get(variable.name, "")
    if variable.is_url:
        return mask_url(given) if given else ""
    if variable.secret:
        return HIDDEN if origin != "default" else ""
    text = _text(getattr(settings, variable.setting or variable.name, given))
    if _PRIVATE.search(text):  # a private key where a public one belongs
        return HIDDEN
    return mask_url(text) if "://" in text else text


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{word}={number}" for word, number in value.items())
    return ", ".join(value) if isinstance(value, (list, tuple)) else str(value)


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
    found = _sources()
    before = _next(found) or "unknown"
    if before == name and _file_says(name):
        return _switched(name, before, changed=False, notes=())
    try:
        notes = (*_check_switch(name, before, found, confirm), RESTART)
    except PolicyError as error:
        journal.record("refused", actor=actor, kind="switch", target=name, reason=str(error))
        raise
    with NewFile(Path(settings.SKINSPIRE_HOME), name) as file:
        journal.record("environment switched", actor=actor, **{"from": before, "to": name})
        file.put_in_place()
    return _switched(name, before, changed=True, notes=notes)


def _file_says(name: str) -> bool:
    """Whether the file names it already."""
    says = next((it.says for it in _sources() if it.origin == "switch_env"), "")
    try:
        return normalize_environment(says) == name
    except UnknownEnvironment:
        return False


def _switched(name: str, before: str, *, changed: bool, notes: tuple[str, ...]) -> Switched:
    source = next((it.name for it in _sources() if it.decides), "")
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


def _check_database(name: str) -> Iterator[str]:
    (state,) = environment_states((name,))
    if state.misstamped:
        raise StampError(
            f"The settings call {state.url} {name}, but the database is stamped {state.stamp}.",
            hint="Are two URLs swapped? Look at DEV_, TEST_ and PROD_DATABASE_URL.",
        )
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


def as_json(found: Report) -> dict[str, Any]:
    """The parts of a report that say which environment is active."""
    return {
        "environment": found.environment,
        "source": found.source,
        "url": found.url,
        "sources": [vars(it) for it in found.sources],
        "next": found.next or None,
        "dotenv": found.dotenv or None,
        "environments": [vars(it) for it in found.environments],
        "problems": [
            {"id": identifier, "message": sentence, "hint": hint}
            for identifier, sentence, hint in found.problems
        ],
    }
