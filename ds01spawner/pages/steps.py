"""The steps of a start as the pending page shows them, from the events so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["", "now", "done"]

EXPECTED: Mapping[str, str] = {
    "checks": "Limits and options checked",
    "image": "Environment ready",
    "workspace": "Project folder ready",
    "device": "Compute reserved",
    "container": "Container created",
    "started": "Container started",
    "jupyter": "JupyterLab answers",
}
"""The steps of every start. Others (waiting for a turn, fetching a repository) get a row when they happen."""


@dataclass(frozen=True)
class Step:
    """One row. ``state`` is empty for what has not begun."""

    name: str
    title: str
    state: State = ""


def steps(events: Iterable[Mapping[str, object]]) -> tuple[Step, ...]:
    """A row for every expected step and for every other one that happened, where it happened.

    The first step that is not done is the one in progress, once anything has happened at all.
    """
    rows = [Step(name, title) for name, title in EXPECTED.items()]
    begun = False
    for event in events:
        name = str(event.get("step") or "")
        if not name:
            continue
        begun = True
        state: State = "now" if event.get("finished") is False else "done"
        title = str(event.get("message") or name)
        place = next((i for i, row in enumerate(rows) if row.name == name), None)
        if place is None:
            place = next((i for i, row in enumerate(rows) if row.state != "done"), len(rows))
            rows.insert(place, Step(name, title))
        rows[place] = replace(rows[place], title=title, state=state)
    ahead = next((i for i, row in enumerate(rows) if row.state != "done"), None)
    if begun and ahead is not None:
        rows[ahead] = replace(rows[ahead], state="now")
    return tuple(rows)
