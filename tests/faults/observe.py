"""What the engine itself says, seen past the product: the truth that everything else is compared with."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .engine import ERRORS, Engine
from .log import Log

LOOK_S = 1.0


@dataclass
class Seen:
    """One session as the engine showed it. Times are seconds since the epoch, None while unknown."""

    session: str
    user: str
    server: str
    project: str
    devices: tuple[str, ...]
    container: str
    created: float
    began: float | None = None
    ended: float | None = None
    """From the engine's event or its own record of the end."""
    code: int | None = None
    memory: bool = False
    last_seen: float = 0.0
    running_at: float = 0.0
    gone: float | None = None
    causes: list[tuple[float, str]] = field(default_factory=list)
    """What the campaign did to it, and when."""

    @property
    def over_at(self) -> float | None:
        """When it ended, as well as can be known."""
        return self.ended or self.gone

    @property
    def name(self) -> str:
        """Whose it is, for people."""
        return f"{self.user}/{self.server} ({self.session})"


class Observer:
    """Follows the engine's events and lists its containers every second."""

    def __init__(self, engine: Engine, log: Log) -> None:
        self.engine, self.log = engine, log
        self.sessions: dict[str, Seen] = {}
        self.shared: list[str] = []
        """Double grants: each a sentence."""
        self.looks = 0
        self.answered_at = 0.0
        self.lock = threading.RLock()
        self._containers: dict[str, str] = {}
        for work in (self._follow, self._look_again):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    # --- questions ----------------------------------------------------------------------------------

    def live(self) -> list[Seen]:
        """Sessions that run now, as far as known, oldest first."""
        with self.lock:
            return sorted(
                (s for s in self.sessions.values() if s.began and not s.over_at), key=lambda s: s.created
            )

    def there(self) -> list[Seen]:
        """Sessions whose container exists, in any state."""
        with self.lock:
            return [s for s in self.sessions.values() if s.gone is None]

    def of(self, user: str, server: str) -> Seen | None:
        """The newest session of a server."""
        with self.lock:
            mine = [s for s in self.sessions.values() if (s.user, s.server) == (user, server)]
            return max(mine, key=lambda s: s.created, default=None)

    def mark(self, session: str, cause: str) -> None:
        """Note what is about to be done to a session."""
        with self.lock:
            if session in self.sessions:
                self.sessions[session].causes.append((time.time(), cause))

    def mark_all(self, cause: str) -> None:
        """Note what is about to be done to all that run."""
        for seen in self.there():
            self.mark(seen.session, cause)

    # --- the engine's events ------------------------------------------------------------------------

    def _follow(self) -> None:
        since = time.time()
        while True:
            with suppress(*ERRORS, ValueError):
                client = self.engine.client(timeout=3600)
                filters = {"type": "container", "label": "ds01.managed=true"}
                for event in client.api.events(since=since, decode=True, filters=filters):
                    since = event["timeNano"] / 1e9
                    self._event(event, since)
            time.sleep(0.2)

    def _event(self, event: dict[str, Any], at: float) -> None:
        facts = event["Actor"]["Attributes"]
        action, container = event["Action"].split(":")[0], event["Actor"]["ID"]
        with self.lock:
            seen = self._meet(container, facts, at)
            if seen is None:
                return
            if action == "create" and container != seen.container:
                _goes_on(seen, container, facts)
            if container != seen.container:
                return  # the container of an earlier try of the same start
            if action == "start":
                seen.began = at
            elif action == "oom":
                seen.memory = True
            elif action == "die":
                seen.ended, seen.code = at, int(facts.get("exitCode") or 0)
            elif action == "destroy":
                seen.gone = seen.gone or at
        if action in ("create", "start", "oom", "die", "destroy", "pause", "unpause"):
            code, devices = facts.get("exitCode"), ",".join(seen.devices) if action == "create" else None
            who = f"{seen.user}/{seen.server}" if action == "create" else None
            self.log.say(f"engine {action}", session=seen.session, at=at, code=code, who=who, devices=devices)

    def _meet(self, container: str, labels: dict[str, str], at: float) -> Seen | None:
        session = labels.get("ds01.session")
        if not session:
            return None
        if session not in self.sessions:
            self.sessions[session] = Seen(
                session,
                labels.get("ds01.user", ""),
                labels.get("ds01.server", ""),
                labels.get("ds01.project", ""),
                _devices(labels),
                container,
                at,
            )
        return self.sessions[session]

    # --- the engine's list --------------------------------------------------------------------------

    def _look_again(self) -> None:
        client = None
        while True:
            try:
                client = client or self.engine.client(timeout=5)
                self._look(client.api)
            except ERRORS:
                client = None
            time.sleep(LOOK_S)

    def _look(self, api: Any) -> None:
        began = time.time()
        listed = api.containers(all=True, filters={"label": "ds01.managed=true"})
        records = {}
        for row in listed:
            if row["State"] != "running":
                with suppress(*ERRORS):
                    records[row["Id"]] = api.inspect_container(row["Id"])["State"]
        with self.lock:
            self.looks += 1
            self.answered_at = time.time()
            here = set()
            for row in listed:
                seen = self._meet(row["Id"], row["Labels"], row["Created"])
                if seen is not None and seen.container == row["Id"]:
                    here.add(seen.session)
                    self._update(seen, row["State"], records.get(row["Id"]), began)
            for seen in self.sessions.values():
                if seen.session not in here and seen.gone is None and seen.created < began - 1:
                    seen.gone = began
            self._one_holder(listed)

    def _update(self, seen: Seen, state: str, record: dict[str, Any] | None, at: float) -> None:
        seen.last_seen = at
        if seen.gone is not None and at > seen.gone:
            self.log.say("engine shows it again", session=seen.session, state=state)
            seen.gone = None
        if state in ("running", "paused"):
            seen.running_at = at
            seen.began = seen.began or at
        if record and seen.ended is None and state in ("exited", "dead") and seen.began:
            seen.ended, seen.code = _time(record["FinishedAt"]), record["ExitCode"]
        if record and record.get("OOMKilled"):
            seen.memory = True

    def _one_holder(self, listed: list[dict[str, Any]]) -> None:
        holders: dict[str, str] = {}
        for row in listed:
            for uuid in row["Labels"].get("ds01.gpu.uuids", "").split(","):
                other = holders.setdefault(uuid, row["Id"])
                if uuid and other != row["Id"]:
                    self.shared.append(f"{uuid} is held by {other[:12]} and {row['Id'][:12]}")


def _time(text: str) -> float | None:
    if text.startswith("0001"):
        return None
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()


def _goes_on(seen: Seen, container: str, labels: dict[str, str]) -> None:
    """A start that failed on one device goes on with another, in another container of the same session."""
    seen.container, seen.devices = container, _devices(labels)
    seen.began = seen.ended = seen.gone = seen.code = None


def _devices(labels: dict[str, str]) -> tuple[str, ...]:
    return tuple(u for u in labels.get("ds01.gpu.uuids", "").split(",") if u)
