"""Sessions' ends as the engine tells them: its events as they happen, and its records of what is left.

The hub sees an end at its next poll, or never; the engine forgets its events after some hundreds. So the
service follows them, and reports every end of a session of this hub with the engine's own time. Whoever
knows better why (the hub, the idle service, an admin) has reported it by then, or will: one record results.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

from ..core.errors import DS01Error, StoreError
from ..core.labels import MANAGED_FILTER, SessionLabels
from ..engines.base import EngineSession
from ..engines.docker import endings as engine
from ..engines.docker.answers import EventJson
from ..engines.docker.engine import docker_of
from ..engines.ends import STOPPED_BY_ENGINE, EndEvidence, explain, lost, of_session
from ..policy.units import say_size
from ..site import Site

log = logging.getLogger(__name__)
WINDOW = timedelta(seconds=25)
"""How long one connection follows the events; shorter than the client's patience with a silent engine."""
SETTLES = timedelta(seconds=4)
"""An end is reported so long after it: whoever caused it comes first, and nothing has to be corrected."""
STEP_S = 2.0
BACK = timedelta(hours=1)
RETRY_S = (0.5, 10.0)
MOST_CONTAINERS = 5000
MOST_EVENTS = 60
CURSOR = "engine.events"


@dataclass
class _Kept:
    """One container's events, and whether its end is reported."""

    labels: SessionLabels
    events: list[EventJson] = field(default_factory=list)
    reported: bool = False


@dataclass(frozen=True)
class Seen:
    """An end that the engine told."""

    container: str
    labels: SessionLabels
    evidence: EndEvidence


class Events:
    """What the engine told of our sessions' containers. Thread-safe; no input or output."""

    def __init__(
        self,
        since: datetime,
        mine: Callable[[EventJson], SessionLabels | None],
    ) -> None:
        """``since``: from when on the engine is to be asked. ``mine``: whose session an event is about."""
        self.since = since
        self._mine = mine
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, event: EventJson) -> None:
        """Keep one event; one that is told again changes nothing."""
        actor = event.get("Actor") or {}
        labels = self._mine(event)
        at = engine.when(event)
        with self._lock:
            self.since = max(self.since, at)
            if labels is None:
                return
            kept = self._kept.setdefault(str(actor.get("ID")), _Kept(labels))
            if event in kept.events or len(kept.events) >= MOST_EVENTS:
                return
            kept.events.append(event)
            if event.get("Action") == "start":
                kept.reported = False
            while len(self._kept) > MOST_CONTAINERS:
                self._kept.popitem(last=False)

    def settled(self, now: datetime) -> list[Seen]:
        """The ends that are due to be reported, each once."""
        found = []
        with self._lock:
            for container, kept in list(self._kept.items()):
                evidence = engine.of_events(kept.events)
                if evidence.ended_at is None or now - evidence.ended_at < SETTLES:
                    continue
                if not kept.reported:
                    kept.reported = True
                    found.append(Seen(container, kept.labels, evidence))
                if evidence.removed:
                    del self._kept[container]
        return found


def follow(site: Site, events: Events, over: threading.Event) -> None:
    """Follow the engine's events until ``over``. Blocking, for a thread of its own; never raises."""
    wait = RETRY_S[0]
    wanted = {**engine.OF_ENDS, "label": [MANAGED_FILTER]}
    while not over.is_set():
        until = datetime.now(timezone.utc) + WINDOW
        try:
            stream = docker_of(site.engine).client.events(
                since=engine.stamp(events.since), until=engine.stamp(until), filters=wanted, decode=True
            )
            try:
                for event in stream:
                    events.take(event)
                    if over.is_set():
                        return
            finally:
                stream.close()
            wait = RETRY_S[0]
        except engine.FAILURES as error:
            log.debug("The engine's events are not followed: %s", error)
            over.wait(wait)
            wait = min(2 * wait, RETRY_S[1])


def report_settled(site: Site, events: Events, now: datetime) -> int:
    """Report the ends that the events tell; returns how many. Blocking."""
    due = events.settled(now)
    if not due:
        return 0
    there = {r.labels.session: r for r in site.engine.look(60).sessions}
    done = 0
    for seen in due:
        current = there.get(seen.labels.session)
        if current is not None and current.container != seen.container:
            continue  # a start that failed on one device goes on with another
        evidence = seen.evidence
        if evidence.exit_code in STOPPED_BY_ENGINE and not evidence.signals:
            evidence = replace(evidence, engine_started=engine.engine_started(docker_of(site.engine).client))
        _report(site, seen.labels, evidence)
        done += 1
    try:
        site.store().facts.set(CURSOR, events.since.isoformat(), now)
    except StoreError as error:
        log.warning("How far the engine's events are read is not noted: %s", error)
    return done


def begin(site: Site, now: datetime) -> Events:
    """Events from where an earlier process left off, as far back as makes sense. Blocking."""
    since = now - BACK
    try:
        text = site.store().facts.get(CURSOR)
    except StoreError:
        text = None
    with suppress(TypeError, ValueError):
        since = max(since, datetime.fromisoformat(str(text)))
    return Events(since, docker_of(site.engine).session_in_event)


def report_dead(site: Site, sessions: Iterable[EngineSession], now: datetime) -> int:
    """Report sessions whose containers have ended but are still there; returns how many. Blocking."""
    done = 0
    for record in sessions:
        if record.state not in ("exited", "dead"):
            continue
        found = site.engine.how_ended(record.container)
        if found.ended_at is not None and now - found.ended_at >= SETTLES:
            _report(site, record.labels, found)
            done += 1
    return done


def report_missing(site: Site, sessions: Iterable[str]) -> list[str]:
    """Find out how sessions ended that history has as running and the engine has not; returns the lost."""
    forgotten = []
    for session in sessions:
        row = site.store().sessions.get(session)
        if row is None or row.ended_at is not None:
            continue
        now = _real_now()
        since = min(row.seen_at, now) - timedelta(seconds=60)
        found = site.engine.how_vanished(session, since, now)
        ended = explain(session, found, say_size(row.memory) if row.memory else "")
        if ended is None:
            ended = lost(session, row.seen_at)
            forgotten.append(session)
        site.endings.write_end(ended)
    return forgotten


def run(site: Site, over: threading.Event) -> None:
    """Follow and report until ``over``. Blocking, for a thread of its own; never raises."""
    events = begin(site, _real_now())
    threading.Thread(target=follow, args=(site, events, over), name="ds01-engine-events", daemon=True).start()
    while not over.wait(STEP_S):
        try:
            report_settled(site, events, _real_now())
        except DS01Error as error:
            log.warning("Ends of sessions wait for better times: %s", error)
        except Exception:
            log.exception("Ends of sessions were not reported")


def _report(site: Site, labels: SessionLabels, evidence: EndEvidence) -> None:
    ended = of_session(labels, evidence)
    if ended is not None:
        # Of a session that history has never heard of, a removal alone tells neither begin nor end.
        site.endings.write_end(ended, labels if evidence.exact else None)


def _real_now() -> datetime:
    return datetime.now(timezone.utc)
