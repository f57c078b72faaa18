"""A report on the environments as tables of a terminal."""

from __future__ import annotations

from dbops.environments import Report
from dbops.management.console import Console


def show_environments(console: Console, found: Report) -> None:
    """Which is active, who decided it, and how each stands."""
    console.say(f"{found.environment}, by {found.source or 'nothing'}", style="bold")
    if found.next != found.environment:
        console.say(f"A process started now would run in {found.next or 'none'}.", style="yellow")
    for it in found.sources:
        decision = "decides" if it.decides else "overridden" if it.says else "says nothing"
        console.say(f"  {it.name} ({it.origin}): {it.says or '-'}, {decision}")
    console.say(f"  .env: {found.dotenv or 'none'}")
    console.table(
        ("environment", "url", "from", "state", "stamp"),
        [
            (it.name, it.url, it.origin, "reachable" if it.reachable else it.problem,
             it.stamp or "none")
            for it in found.environments
        ],
    )  # fmt: skip


def show_problems(console: Console, found: Report) -> None:
    """What the system checks have to say."""
    for identifier, sentence, hint in found.problems:
        console.say(f"{identifier}: {sentence}", style="red" if ".E" in identifier else "yellow")
        console.say(f"  {hint}")
