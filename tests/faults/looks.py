"""The looks in each calm: what the product says about itself, beside what the engine says."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from .drive import Models
from .history import Row, rows
from .observe import Observer, Seen
from .pages import Browser, home_is_true, strip_is_true
from .stage import DEVICES, MODULES, Stage
from .stretch import Stretch
from .verdict import DeviceSaid, Violation, devices_are_free_or_held, held_devices

BACK_S = 10.0
"""Seconds after the last fault in which the hub must answer again."""
SERVICE_BACK_S = 50.0
ORPHAN_S = 120.0
STEADY_S = 12.0
"""Seconds in which a difference must go away: pages may be some seconds old."""
PATIENCE_S = 150.0
"""Seconds in which a card that had a fault may be kept back: two healthy looks, some time apart, by the hub
and by the service, that none may need to take."""


class Looks:
    """``violations`` is everything found so far, ``rows`` everything that history ever said."""

    def __init__(self, stage: Stage, observer: Observer, models: Models) -> None:
        self.stage, self.observer, self.models = stage, observer, models
        self.violations: list[Violation] = []
        self.rows: dict[str, Row] = {}
        self.back: list[float] = []
        self.service_back: list[float] = []
        self.pages = 0
        self._unowned: dict[str, float] = {}
        self._told: set[str] = set()
        self._browsers: dict[str, Browser] = {}

    def add(self, found: list[Violation]) -> None:
        """Keep violations, once each."""
        for one in found:
            if (key := f"{one.rule} {one.session or one.text}") not in self._told:
                self._told.add(key)
                self.violations.append(one)
                self.stage.log.say("violation", rule=one.rule, text=one.text, session=one.session)

    def hub_is_back(self, since: float, patience: float = 90) -> None:
        """The hub answers by itself soon after the last fault."""
        stretch = Stretch()
        while not self.stage.hub_answers():
            if time.time() - since > patience:
                break
            stretch.measure()
            time.sleep(0.2)
        took = time.time() - since
        self.back.append(took / stretch.factor)
        self.stage.log.say("hub back", took=round(took, 2), stretch=round(stretch.factor, 2))
        if took > BACK_S * stretch.factor:
            text = f"it took {took:.1f} s on a machine that takes {stretch.factor:.1f} times as long as alone"
            self.add([Violation("the hub is back within ten seconds", text)])

    def service_is_back(self) -> None:
        """JupyterHub looks every 30 seconds whether its services run."""
        began, stretch = time.time(), Stretch()
        while not self.stage.service_answers():
            stretch.measure()
            if time.time() - began > SERVICE_BACK_S * stretch.factor:
                self.add([Violation("the service is back", f"it does not answer after {SERVICE_BACK_S:g} s")])
                break
            time.sleep(0.5)
        self.service_back.append((time.time() - began) / stretch.factor)

    def read_history(self) -> None:
        """What the store says now; a former answer stays where the store was taken away since."""
        self.rows |= rows(self.stage.hub.state / "ds01.sqlite")

    def owners(self, calm: float) -> None:
        """Nothing runs without an owner or an intent for longer than two minutes; ``calm`` is the time
        without faults since the last look."""
        now = time.time()
        if now - self.models.read_at > 5 or now - self.observer.answered_at > 5:
            return
        there = {s.session: s for s in self.observer.there()}
        for session, seen in there.items():
            model = self.models.servers.get((seen.user, seen.server), {})
            owned = model.get("ready") or model.get("pending") or self._intent(session)
            newest = self.observer.of(seen.user, seen.server)
            if owned and newest is not None and newest.session == session:
                self._unowned.pop(session, None)
                continue
            self._unowned[session] = self._unowned.get(session, 0.0) + calm
            if self._unowned[session] > ORPHAN_S:
                text = (
                    f"{seen.name} is there and the hub knows nothing of it for {self._unowned[session]:.0f} s"
                )
                self.add([Violation("nothing is left without an owner", text, session)])
        for session in set(self._unowned) - set(there):
            del self._unowned[session]

    def _intent(self, session: str) -> bool:
        return any(session in path.name for path in (self.stage.hub.state / "intents").glob("*"))

    def one_holder(self) -> None:
        """No device was ever seen with two holders."""
        self.add([Violation("one holder a device", text) for text in self.observer.shared])

    def devices(self) -> None:
        """Every device is free or held, as the service shows it."""
        self._steady(self._devices)

    def _devices(self) -> list[Violation]:
        answer = self.stage.api["admin"].http.get("/devices", timeout=20)
        if answer.status_code != 200:
            return [
                Violation("pages answer", f"/api/devices answers {answer.status_code}: {answer.text[:150]}")
            ]
        said = [DeviceSaid(d["uuid"], d["state"], d.get("holder") or "") for d in answer.json()["devices"]]
        self.pages += 1
        return devices_are_free_or_held(said, self.observer.there())

    def homes(self, users: list[str]) -> None:
        """What the service tells people of their sessions is what the engine runs."""
        for user in users:
            self._steady(lambda user=user: self._home(user))

    def _home(self, user: str) -> list[Violation]:
        answer = self.stage.api[user].http.get("/sessions", timeout=20)
        if answer.status_code != 200:
            return [
                Violation("pages answer", f"/api/sessions answers {answer.status_code}: {answer.text[:150]}")
            ]
        self.pages += 1
        said = {s["session"] for s in answer.json()["sessions"]}
        mine = [s for s in self.observer.there() if s.user == user]
        runs = {s.session for s in mine if s.began and not s.ended}
        found = [Violation("pages are true", f"{user} is not shown {s}", s) for s in runs - said]
        gone = said - {s.session for s in mine}
        return found + [Violation("pages are true", f"{user} is shown {s}, which is gone", s) for s in gone]

    def real_pages(self, user: str) -> None:
        """The home page of a person, their launch page, and the administrator's view of the GPUs."""
        looks = (
            lambda: home_is_true(self._page(user, "hub/home"), user, self._running(user)),
            lambda: self._strip(user, f"hub/spawn/{user}/look"),
            lambda: self._strip("admin", "services/ds01/"),
        )
        for look in looks:
            self._steady(look)

    def _strip(self, user: str, path: str) -> list[Violation]:
        page = self._page(user, path)
        held = held_devices((u for s in self.observer.there() for u in s.devices), self.stage.devices())
        faulted = time.time() - self.stage.card_faulted_at < PATIENCE_S
        return strip_is_true(page, path, held, DEVICES, faulted)

    def _running(self, user: str) -> list[Seen]:
        return [s for s in self.observer.live() if s.user == user]

    def _page(self, user: str, path: str) -> str:
        if user not in self._browsers:
            self._browsers[user] = Browser(self.stage.hub.url, user)
        self.pages += 1
        return self._browsers[user].page(path)

    def _steady(self, look: Callable[[], list[Violation]]) -> None:
        """A difference counts when it stays: both sides are read at different moments."""
        began, stretch = time.monotonic(), Stretch()
        last: list[Violation] = []
        while True:
            try:
                found = look()
            except httpx.HTTPError as error:
                found = [Violation("pages answer", f"{type(error).__name__}: {str(error)[:200]}")]
            kept = {(v.rule, v.text) for v in found}
            last = [v for v in last if (v.rule, v.text) in kept] if last else found
            if not found or not last:
                return
            stretch.measure()
            if time.monotonic() - began > STEADY_S * stretch.factor:
                self.add(last)
                return
            time.sleep(1)

    def processes(self) -> None:
        """One service of each kind, and each is a child of the hub that runs."""

        def wrong() -> list[Violation]:
            hub = self.stage.pids("hub")
            found = []
            for name in MODULES:
                pids = self.stage.pids(name)
                # The proxy outlives a killed hub by design: people keep working in their sessions.
                strange = [p for p in pids if name != "proxy" and parent(p) not in hub]
                if len(pids) != 1 or strange:
                    found.append(
                        Violation("no service is left over", f"{name}: {pids}, not the hub's: {strange}")
                    )
            return found

        deadline = time.monotonic() + 45  # JupyterHub looks every 30 s whether its services run
        while found := wrong():
            if time.monotonic() > deadline:
                self.add(found)
                return
            time.sleep(1)

    def workspaces(self) -> dict[tuple[str, str, str], bytes]:
        """Every file that a session wrote, by user, project and session."""
        found = {}
        for path in Path(self.stage.hub.workspaces).glob("*/*/data-*"):
            with suppress(OSError):
                key = (path.parts[-3], path.parts[-2], path.name.removeprefix("data-"))
                found[key] = path.read_bytes()
        return found


def parent(pid: int) -> int:
    """Parent of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _no_answer(what: str, answer: httpx.Response) -> Violation:
    return Violation("pages answer", f"/api/{what} answers {answer.status_code}: {answer.text[:150]}")
