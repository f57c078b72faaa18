"""Which environment is active and why, how each stands, and what every setting says.

Nothing here is secret: URLs are masked, and of other secrets is only told whether they are set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import Tags, run_checks

from dbops import conf, policy
from dbops.exceptions import (
    ConfigurationError,
)
from dbops.operations.inspection import EnvironmentFacts, InspectRequest, inspect_environments
from skinspire.databases import EMBEDDED
from skinspire.environment import (
    ENVIRONMENTS,
    UnknownEnvironment,
    normalize_environment,
    sources,
)
from skinspire.known import KNOWN, Variable
from skinspire.masked import HIDDEN, mask_url
from skinspire.variables import env

_PRIVATE = re.compile(r"PRIVATE KEY|AGE-SECRET-KEY", re.IGNORECASE)


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


def report(environment: str = "") -> Report:
    """Everything ``switch_env --status``, ``show_db_config`` and the console show.

    Args:
        environment: leave the databases of the others out.
    """
    found = naming_sources()
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
        next=next_environment(found),
        dotenv=str(env.file or ""),
        environments=environment_states(names),
        settings=tuple(_setting(each) for each in KNOWN if each.name not in hidden),
        problems=tuple(
            (str(it.id), str(it.msg), str(it.hint or "")) for it in run_checks(tags=[Tags.security])
        ),
    )


def naming_sources() -> tuple[Source, ...]:
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


def next_environment(found: tuple[Source, ...]) -> str:
    """What a process started now would run in; "" where what decides is no environment."""
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
