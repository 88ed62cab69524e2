"""People who start, use and end sessions, as the plan says, through the hub's and the service's APIs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx

from .engine import ERRORS
from .observe import Observer, Seen
from .plan import Life
from .session import how
from .stage import Stage

ASK_S = 40.0
"""Seconds in which a start is asked for again while nothing answers."""
READY_S = 75.0
GONE_S = 60.0
MODELS_S = 0.7
BUSY = (400, 409)


class Models:
    """The hub's servers, read for everybody at once."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.servers: dict[tuple[str, str], dict[str, Any]] = {}
        self.read_at = 0.0
        threading.Thread(target=self._run, name="models", daemon=True).start()

    def _run(self) -> None:
        while True:
            with suppress(httpx.HTTPError, ValueError):
                self.read()
            time.sleep(MODELS_S)

    def read(self) -> None:
        """One look."""
        began = time.time()
        answer = self.stage.hub.http.get("/users", params={"limit": 200}, timeout=15)
        if answer.status_code == 200:
            self.servers = {(m["name"], n): s for m in answer.json() for n, s in m["servers"].items()}
            self.read_at = began

    def server(
        self, user: str, server: str, after: float = 0.0, patience: float = 20
    ) -> dict[str, Any] | None:
        """A server's model read after a moment; empty when there is none, None when it cannot be known."""
        deadline = time.monotonic() + patience
        while self.read_at < after:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)
        return self.servers.get((user, server), {})


class Driver:
    """Lives of sessions, each in a thread of its own."""

    def __init__(self, stage: Stage, observer: Observer, models: Models) -> None:
        self.stage, self.observer, self.models = stage, observer, models
        self.results: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.answers: list[tuple[str, str, str]] = []
        """Session, what was asked, what was answered: for what was told and must be true."""
        self._busy: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def live(self, life: Life) -> None:
        """One life, from the wish to its end."""
        place = (life.user, life.server)
        with self._lock:
            if place in self._busy:
                self.results["server in use"] += 1
                return
            self._busy.add(place)
        try:
            result = self._live(life)
        except Exception as error:
            result = f"driver failed: {error!r}"
        finally:
            with self._lock:
                self._busy.discard(place)
        with self._lock:
            self.results[result] += 1
        self.stage.log.say("life", number=life.number, user=life.user, server=life.server, result=result)

    def _live(self, life: Life) -> str:
        self._instruct(life)
        if problem := self._start(life):
            return problem
        seen = self._ready(life)
        if seen is None:
            return "never ready"
        deadline = time.monotonic() + life.lasts
        while time.monotonic() < deadline and not seen.over_at:
            time.sleep(0.2)
        if seen.over_at:
            return "ended before its time"
        self._end(life, seen)
        return "lived"

    def _instruct(self, life: Life) -> None:
        project = self.stage.hub.workspaces / life.user / life.project
        with suppress(OSError):  # a first start has no project yet
            (project / ".how").write_text(how(life.boots, life.deaf))

    def _start(self, life: Life) -> str:
        options = {"project": life.project, "gpu": life.gpu}
        deadline = time.monotonic() + ASK_S
        while True:
            try:
                answer = self.stage.hub.launch(life.user, options, life.server)
                if answer.status_code in (201, 202):
                    return ""
                self.refusals[f"{answer.status_code} {answer.reason_phrase}"[:80]] += 1
                if answer.status_code in BUSY or answer.status_code == 403:
                    return f"refused {answer.status_code}"
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                return "never answered"
            time.sleep(1.5)

    def _ready(self, life: Life) -> Seen | None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            model = self.models.server(life.user, life.server, time.time())
            if model is not None and model.get("ready"):
                seen = self.observer.of(life.user, life.server)
                if seen is not None:
                    self.observer.mark(seen.session, "ready")
                return seen
            if model is not None and not model.get("pending"):
                return None
            time.sleep(0.3)
        return None

    # --- ends ---------------------------------------------------------------------------------------

    def _end(self, life: Life, seen: Seen) -> None:
        self.observer.mark(seen.session, life.end)
        self.stage.log.say("end", session=seen.session, how=life.end, code=life.code)
        asked = time.time()
        with suppress(httpx.HTTPError, *ERRORS):
            self._ask(life, seen)
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline:
            model = self.models.server(life.user, life.server, asked)
            if model is not None and not model.get("ready") and not model.get("pending"):
                return
            time.sleep(0.5)

    def _ask(self, life: Life, seen: Seen) -> None:
        if life.end == "owner":
            address = f"{self.stage.hub.url}hub/api{self.stage.hub.server_path(life.user, life.server)}"
            answer = self.stage.api[life.user].http.delete(address)
            self._answered(seen, "DELETE to the hub", answer)
        elif life.end in ("service", "admin"):
            who = self.stage.api[life.user if life.end == "service" else "admin"].http
            body = {"reason": f"reason {life.number}"} if life.end == "admin" else {}
            answer = who.request("DELETE", f"/sessions/{seen.session}", json=body)
            self._answered(seen, "DELETE to the service", answer)
        elif life.end == "kill":
            self.stage.engine.client().api.kill(seen.container)
        else:
            what = f"exit+{life.code}" if life.end == "exit" else "memory"
            found = self.stage.engine.client().api.inspect_container(seen.container)
            address = found["NetworkSettings"]["Networks"]["ds01-test"]["IPAddress"]
            httpx.get(f"http://{address}:8888/cgi-bin/do?{what}", timeout=5)

    def _answered(self, seen: Seen, asked: str, answer: httpx.Response) -> None:
        self.stage.log.say("answer", session=seen.session, asked=asked, status=answer.status_code)
        self.answers.append((seen.session, asked, str(answer.status_code)))
