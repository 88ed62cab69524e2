"""One campaign from its plan to its result."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import verdict
from .drive import Driver, Models
from .faults import Doer
from .log import Log
from .looks import Looks
from .observe import Observer
from .plan import Plan, Storm
from .session import written
from .stage import Stage

FINAL_S = 135.0
"""Seconds of calm at the end: two minutes for what may be left, and some."""
THREADS = 24
FORGETS_S = 60.0
"""An engine that is killed so soon after an end may take with it all that it knew of that."""


@dataclass
class Result:
    """What a campaign found, as it is kept and shown."""

    seed: int
    minutes: float
    faults: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    storms: int = 0
    lives: dict[str, int] = field(default_factory=dict)
    sessions: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    pages: int = 0
    back: list[float] = field(default_factory=list)
    service_back: list[float] = field(default_factory=list)
    device_seconds: list[float] = field(default_factory=list)
    worst_end: float = 0.0
    ends: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)


class Campaign:
    """See the module's text."""

    def __init__(self, plan: Plan, stage: Stage, log: Log) -> None:
        self.plan, self.stage, self.log = plan, stage, log
        self.observer = Observer(stage.engine, log)
        self.models = Models(stage)
        self.driver = Driver(stage, self.observer, self.models)
        self.doer = Doer(stage, self.observer)
        self.looks = Looks(stage, self.observer, self.models)
        self.began = time.monotonic()
        self._calm = threading.Event()
        self._over = threading.Event()

    def run(self) -> Result:
        """Everything, in its time."""
        self._calm.set()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        with ThreadPoolExecutor(THREADS, thread_name_prefix="life") as pool:
            people = threading.Thread(target=self._people, args=(pool,), name="people")
            people.start()
            for storm in self.plan.storms:
                self._storm(storm)
            people.join()
        return self._end()

    def _people(self, pool: ThreadPoolExecutor) -> None:
        for life in self.plan.lives:
            self._until(life.at)
            pool.submit(self.driver.live, life)

    def _until(self, at: float) -> None:
        time.sleep(max(0.0, self.began + at - time.monotonic()))

    def _watch(self) -> None:
        """Whom what belongs to, every few seconds; time counts while it is calm."""
        last = time.monotonic()
        while not self._over.wait(3):
            now = time.monotonic()
            self.looks.owners(now - last if self._calm.is_set() else 0.0)
            last = now

    def _storm(self, storm: Storm) -> None:
        self._until(storm.begins)
        # Looks that took longer than the calm move all that follows, people included.
        self.began = max(self.began, time.monotonic() - storm.begins)
        self._calm.clear()
        self.log.say("storm", number=storm.number, kinds=[f.kind for f in storm.faults])
        threads = [threading.Thread(target=self._fault, args=(f,)) for f in storm.faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        over = time.time()
        self._calm.set()
        self.looks.hub_is_back(max(over, self.stage.hub_ended_at))
        self._look(storm.number)

    def _fault(self, fault: Any) -> None:
        self._until(fault.at)
        undo: ExitStack = self.doer.begin(fault)
        self._until(fault.at + fault.lasts)
        try:
            undo.close()
            self.log.say("undone", number=fault.number, kind=fault.kind)
        except Exception as error:
            self.log.say("undo failed", number=fault.number, kind=fault.kind, why=repr(error))

    def _look(self, number: int) -> None:
        looks = self.looks
        looks.service_is_back()
        looks.one_holder()
        looks.read_history()
        looks.devices()
        chance = random.Random(f"looks {self.plan.seed} {number}")
        people = chance.sample(self.stage.users, 3)
        looks.homes(people)
        looks.real_pages(people[0])
        looks.one_holder()
        self.log.say("calm", number=number, back=round(looks.back[-1], 2), live=len(self.observer.live()))

    # --- the end ------------------------------------------------------------------------------------

    def _end(self) -> Result:
        self.log.say("last calm")
        deadline = time.monotonic() + FINAL_S
        self.looks.processes()
        while time.monotonic() < deadline:
            time.sleep(2)
        self._over.set()
        self._look(len(self.plan.storms))
        for user in self.stage.users[::8]:
            self.looks.real_pages(user)
        self.looks.homes(self.stage.users)
        return self._judge()

    def _judge(self) -> Result:
        looks, now = self.looks, time.time()
        sessions = list(self.observer.sessions.values())
        exempt = self._during(self.doer.store_lost, verdict.SETTLE_S)
        killed = self.doer.engine_killed
        forgotten = {
            s.session for s in sessions if any(0 < at - (s.over_at or at) < FORGETS_S for at in killed)
        }
        no_room = self._during(self.doer.no_room, 0.0)
        wrong = self._during(self.doer.clock_off, 0.0)
        looks.add(verdict.untouched_are_not_lost(sessions))
        lost_at = max((end for _, end in self.doer.store_lost), default=0.0)
        looks.add(verdict.ends_are_true(sessions, looks.rows, now, exempt, wrong, lost_at, forgotten))
        unknown = {s for s in forgotten if (r := looks.rows.get(s)) and r.kind == "lost"}
        true, said, found = verdict.accounting_is_right(sessions, looks.rows, exempt | wrong | unknown)
        looks.add(found)
        looks.add(verdict.workspaces_are_whole(sessions, looks.workspaces(), written(), no_room))
        off = [
            abs(row.ended - s.ended)
            for s in sessions
            if s.ended
            and s.session not in wrong | unknown
            and (row := looks.rows.get(s.session))
            and row.ended
        ]
        return Result(
            seed=self.plan.seed,
            minutes=round((time.monotonic() - self.began) / 60, 1),
            faults=dict(sorted(self.doer.done.items())),
            missed=dict(sorted(self.doer.missed.items())),
            storms=len(self.plan.storms),
            lives=dict(self.driver.results),
            sessions=sum(1 for s in sessions if s.began),
            refusals=dict(self.driver.refusals),
            looks=self.observer.looks,
            pages=looks.pages,
            back=[round(b, 2) for b in looks.back],
            service_back=[round(b, 2) for b in looks.service_back],
            device_seconds=[round(true, 1), round(said, 1)],
            worst_end=round(max(off, default=0.0), 2),
            ends=len(off),
            violations=[asdict(v) for v in looks.violations],
        )

    def _during(self, times: list[tuple[float, float]], before: float) -> set[str]:
        """Sessions that ran or were written down in one of these times, or as long before it."""
        return {
            s.session
            for s in self.observer.sessions.values()
            if any(s.created < end + 5 and (s.over_at or end) > begin - before - 5 for begin, end in times)
        }


def summary(result: Result) -> str:
    """A few lines for people."""
    rules = Counter(v["rule"] for v in result.violations)
    lines = [
        f"seed {result.seed}: {sum(result.faults.values())} faults of {len(result.faults)} kinds in "
        f"{result.storms} storms, {result.sessions} sessions, {result.minutes} minutes",
        f"lives: {result.lives}",
        f"faults missed: {result.missed}",
        f"{result.ends} ends compared, worst {result.worst_end} s off",
        f"device seconds by the engine and by history: {result.device_seconds}",
        f"hub back after {result.back}",
        f"{sum(rules.values())} violations: {dict(rules)}",
    ]
    return "\n".join(lines)


def keep(result: Result, folder: Path) -> Path:
    """Write the result beside its log."""
    import json

    path = folder / "result.json"
    path.write_text(json.dumps(asdict(result), indent=1))
    return path
