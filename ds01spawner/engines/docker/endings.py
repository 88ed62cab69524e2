"""What the engine itself knows of how a container ended: its record and its events.

The record (``State``) lives as long as the container. The events live in the engine's memory, some
hundreds of them; they tell a removal, and who ended what: a signal that came through the engine is no
crash. Both are asked for together, because each is missing somewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import docker.errors
import requests

from ...core.installation import Installation, session_of
from ...core.labels import SESSION, SessionLabels
from ..ends import STOPPED_BY_ENGINE, EndEvidence
from .answers import EventJson, StateJson

ENDING_SIGNALS = frozenset({1, 2, 3, 6, 9, 15})
"""Signals by which a container is ended; others that somebody sends through the engine end nothing."""
SIGNAL_COUNTS = timedelta(minutes=2)
"""How long before the end a signal may have been sent that is taken for its cause: a grace is shorter."""
REMOVES = timedelta(seconds=5)
"""How long after the end a removal may come that was its cause: ``docker rm -f`` kills and removes in one."""
MOST_EVENTS = 1000
OF_ENDS = {"type": ["container"], "event": ["start", "oom", "kill", "die", "destroy"]}
"""Filters for the events that tell ends."""
FAILURES = (docker.errors.DockerException, requests.RequestException, OSError, ValueError)


def of_state(state: StateJson) -> EndEvidence:
    """EndEvidence of an inspected container's ``State``. Pure."""
    if state.get("Running") or state.get("Status") in ("created", "running", "paused", "restarting"):
        return EndEvidence()
    code = state.get("ExitCode")
    return EndEvidence(
        moment(state.get("FinishedAt")),
        int(code) if code is not None else None,
        bool(state.get("OOMKilled")),
        str(state.get("Error") or ""),
    )


def of_events(events: Iterable[EventJson]) -> EndEvidence:
    """EndEvidence of one container's events, oldest first. Pure."""
    found, signals = EndEvidence(), list[tuple[datetime, int]]()
    for event in events:
        at, action = when(event), str(event.get("Action") or event.get("status") or "")
        attributes = (event.get("Actor") or {}).get("Attributes") or {}
        if action == "start":
            found, signals = EndEvidence(), []
        elif action == "oom":
            found = replace(found, oom=True)
        elif action == "kill" and found.ended_at is None:
            signals.append((at, _number(attributes.get("signal"), 15)))
        elif action == "die":
            near = [n for t, n in signals if n in ENDING_SIGNALS and at - t <= SIGNAL_COUNTS]
            code = _number(attributes.get("exitCode"), None)
            found = replace(found, ended_at=at, exit_code=code, signals=tuple(near))
        elif action == "destroy":
            known = found.ended_at
            late = known is not None and at - known > REMOVES
            found = replace(found, removed=True, buried=late, ended_at=known or at, exact=known is not None)
    return found


def both(state: EndEvidence, events: EndEvidence) -> EndEvidence:
    """What the record and the events tell together. Pure."""
    if state.ended_at is None:
        return events
    told = replace(state, signals=events.signals, removed=events.removed, buried=events.buried)
    return replace(told, oom=state.oom or events.oom)


def session_of_event(installation: Installation | None, event: EventJson) -> SessionLabels | None:
    """The session of this installation that an event is about. Pure."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    return session_of(installation, attributes, str(attributes.get("name") or ""), str(actor.get("ID") or ""))


def read(client: Any, container: str, since: datetime, now: datetime) -> EndEvidence:
    """What the engine tells of a container. Blocking; an engine that does not answer tells nothing."""
    try:
        state = client.inspect_container(container)["State"]
    except FAILURES:
        state = StateJson()
    return read_with(client, state, container, since, now)


def read_with(client: Any, state: StateJson, container: str, since: datetime, now: datetime) -> EndEvidence:
    """`read` with a ``State`` that is known already."""
    told = events(client, since, now, {"container": [container]})
    return _dated(client, both(of_state(state), of_events(told)))


def read_session(
    client: Any,
    session: str,
    mine: Callable[[EventJson], SessionLabels | None],
    since: datetime,
    now: datetime,
) -> EndEvidence:
    """What the engine still tells of a session whose container is gone. ``mine`` says whose an event is."""
    told = events(client, since, now, {"label": [f"{SESSION}={session}"]})
    return _dated(client, of_events(e for e in told if mine(e) is not None))


def _dated(client: Any, found: EndEvidence) -> EndEvidence:
    """The evidence, with the engine's own start where that could be the cause."""
    if found.ended_at is None or found.signals or found.exit_code not in STOPPED_BY_ENGINE:
        return found
    return replace(found, engine_started=engine_started(client))


def events(client: Any, since: datetime, until: datetime, filters: Mapping[str, object]) -> list[EventJson]:
    """The engine's events of containers in a time that is over; none where it does not tell."""
    wanted = {**OF_ENDS, **filters}
    found: list[EventJson] = []
    try:
        stream = client.events(since=stamp(since), until=stamp(until), filters=wanted, decode=True)
        try:
            for event in stream:
                found.append(event)
                if len(found) >= MOST_EVENTS:
                    break
        finally:
            stream.close()
    except FAILURES:
        return found
    return found


def engine_started(client: Any) -> datetime | None:
    """When the engine started: it makes its default bridge anew each time. None where there is none."""
    try:
        return moment(client.inspect_network("bridge").get("Created"))
    except FAILURES:
        return None


def stamp(at: datetime) -> str:
    """A time as the engine's filters take it, to the microsecond."""
    at = at.astimezone(timezone.utc)
    return f"{int(at.timestamp())}.{at.microsecond:06d}000"


def when(event: EventJson) -> datetime:
    """When an event happened."""
    nano = int(event.get("timeNano") or int(event.get("time") or 0) * 10**9)
    return datetime.fromtimestamp(nano // 10**9, timezone.utc).replace(microsecond=nano % 10**9 // 1000)


def moment(text: Any) -> datetime | None:
    """A time of the engine's, which has nanoseconds; None where it stands for never."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", str(text or ""))
    if not found or found[1].startswith("0001-"):
        return None
    zone = "+00:00" if found[3] == "Z" else found[3]
    at = datetime.fromisoformat(f"{found[1]}.{(found[2] or '0')[:6]:0<6}{zone}")
    return at.astimezone(timezone.utc)


def _number(text: Any, otherwise: int | None) -> Any:
    try:
        return int(text)
    except (TypeError, ValueError):
        return otherwise
