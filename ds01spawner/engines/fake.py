"""An engine in memory, for tests and for whoever writes another one: the whole contract in milliseconds.

A `Machine` is what a real engine is: it goes on while hubs come and go. `FakeEngine` is one process's way to
it. What can happen to a session behind its back is done by the machine's own methods.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from .. import messages
from ..core.errors import LockError, Refused
from ..core.installation import InstallationFile, Standing, session_of, standing
from ..core.labels import SessionLabels
from ..gpu import GpuReading, read_gpu
from ..placement.devices import Holding, Inventory
from .base import (
    Attach,
    Capabilities,
    Capacity,
    Claimed,
    ClaimRequest,
    Counters,
    DeviceUnusable,
    Engine,
    EngineAway,
    EngineSession,
    EngineState,
    Found,
    ImageGone,
    NotThatSession,
    Pool,
    Retired,
)
from .ends import SIGKILL, EndEvidence, of_session
from .ordered import KeyedExecutor

if TYPE_CHECKING:
    from traitlets.config import Config

    from ..core.settings import Settings

T = TypeVar("T")


@dataclass
class Box:
    """One container of the machine, ours or not."""

    id: str
    name: str
    labels: Mapping[str, str]
    devices: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    state: str = "created"
    started_at: datetime | None = None
    end: EndEvidence = field(default_factory=EndEvidence)
    printed: list[str] = field(default_factory=list)


class Machine:
    """See the module's text. Thread-safe."""

    _known: ClassVar[dict[Path, Machine]] = {}

    def __init__(self, cpus: int = 8) -> None:
        self.cpus = cpus
        self.lock = threading.RLock()
        self.claiming = threading.Lock()
        self.boxes: dict[str, Box] = {}
        self.gone: dict[str, EndEvidence] = {}
        """How sessions ended of which nothing is left, by session."""
        self.images: set[str] = set()
        self.unusable: set[str] = set()
        """Devices on which nothing starts."""
        self.open_ways: tuple[str, ...] = ()
        self.away = False

    @classmethod
    def of(cls, settings: Settings) -> Machine:
        """The machine of all engines with this state folder: a hub that comes up again finds it."""
        return cls._known.setdefault(settings.state_dir, cls())

    def asked(self) -> None:
        """Anything was asked of it."""
        if self.away:
            raise EngineAway("the engine does not answer")

    def make(self, name: str, labels: Mapping[str, str], devices: Iterable[str] = ()) -> Box:
        """A container, whoever makes it."""
        box = Box(secrets.token_hex(32), name, dict(labels), tuple(devices))
        with self.lock:
            self.boxes[box.id] = box
        return box

    def get(self, wanted: str) -> Box | None:
        """By id or name."""
        with self.lock:
            named = (b for b in self.boxes.values() if wanted in (b.id, b.name))
            return next(named, None)

    def run(self, box: Box) -> None:
        """Start a container's main process."""
        with self.lock:
            box.state, box.started_at, box.end = "running", _now(), EndEvidence()

    def end(self, box: Box, exit_code: int, *, oom: bool = False, signal: int | None = None) -> None:
        """Its main process ends, by itself or by a signal that came through the engine."""
        with self.lock:
            if box.state == "running":
                box.state = "exited"
                signals = (signal,) if signal is not None else ()
                box.end = EndEvidence(_now(), exit_code, oom, signals=signals)

    def remove(self, box: Box) -> None:
        """It is removed; one that runs is killed first."""
        with self.lock:
            self.end(box, 128 + SIGKILL, signal=SIGKILL)
            session = SessionLabels.from_labels(box.labels)
            if session is not None:
                ended = box.end.ended_at or _now()
                self.gone[session.session] = replace(box.end, ended_at=ended, removed=True)
            self.boxes.pop(box.id, None)


class FakeEngine:
    """See `base.Engine`, whose texts hold."""

    name = "fake"

    def __init__(self, settings: Settings, machine: Machine | None = None) -> None:
        self.settings, self.machine = settings, machine or Machine.of(settings)
        self._installation = InstallationFile(settings.state_dir)
        self._threads = KeyedExecutor(claim=4, mutate=4, stop=4, read=4, pull=1)

    def prepare(self, hub: Config) -> None:
        self.machine.asked()

    # --- what it is -----------------------------------------------------------------------------

    def answers(self) -> None:
        self.machine.asked()

    def capabilities(self) -> Capabilities:
        self.machine.asked()
        return Capabilities(memory=True, cpus=True, pids=True, shm=True, swap=True, devices=True)

    def capacity(self) -> Capacity:
        return Capacity(cpus=self.machine.cpus)

    def exposure(self) -> tuple[str, ...]:
        return () if self.settings.allow_open_network else self.machine.open_ways

    # --- who holds what -------------------------------------------------------------------------

    def inventory(self, max_age: float = 5.0) -> GpuReading:
        return read_gpu(self.settings)

    def look(self, max_age: float = 5.0, patience: float = 0.0) -> EngineState:
        self.machine.asked()
        with self.machine.lock:
            boxes = list(self.machine.boxes.values())
        told = [r for b in boxes if (r := self._session(b)) is not None]
        ours = tuple(r for r in told if r.standing is Standing.OURS)
        others = tuple(r for r in told if r.standing is not Standing.OURS)
        holdings = tuple(h for b in boxes for h in self._holdings(b))
        return EngineState(holdings, ours, others, self.inventory(max_age))

    def _session(self, box: Box) -> EngineSession | None:
        labels = SessionLabels.from_labels(box.labels)
        how = standing(self._installation.now, box.labels, box.name, box.id)
        if labels is None or how is None:
            return None
        started = box.started_at.isoformat() if box.started_at else ""
        return EngineSession(labels, box.id, box.name, box.state, box.state, started, how)

    def _ours(self, box: Box) -> SessionLabels | None:
        return session_of(self._installation.now, box.labels, box.name, box.id)

    def _holdings(self, box: Box) -> Iterator[Holding]:
        mine = self._ours(box)
        for uuid in box.devices:
            if mine is None:
                yield Holding(uuid, f"container {box.name}", container=box.id)
            else:
                yield Holding(
                    uuid, mine.address, "session", mine.user, mine.server, mine.session, box.id,
                    mine.created_at, mine.expires_at,
                )  # fmt: skip

    def attach(self, inventory: Inventory) -> Attach:
        return Attach("simulated", "sessions get no real device")

    def devices_lost(self, session: EngineSession) -> bool:
        return False

    # --- one session ----------------------------------------------------------------------------

    def claim(self, request: ClaimRequest) -> Claimed:
        machine, installation = self.machine, self._installation.now
        if installation is None:
            raise Refused(messages.no_installation(str(self.settings.state_dir)))
        machine.asked()
        if not machine.claiming.acquire(timeout=request.timeout):
            raise LockError(f"others claimed for {request.timeout:g} s; nothing was granted, try again")
        try:
            state = self.look()
            chosen = request.choose(state, self.attach(state.reading.inventory).blocks)
            if machine.get(request.name) is not None:
                raise Refused(messages.name_taken(request.name))
            if chosen.image not in machine.images:
                raise ImageGone(f"there is no image {chosen.image}")
            told = replace(chosen.labels, container=request.name)
            env = {**dict(request.native.get("environment") or {}), **chosen.env}
            box = machine.make(
                request.name, installation.sign(told.to_labels()), (d.uuid for d in chosen.devices)
            )
            box.env = env
        finally:
            machine.claiming.release()
        return Claimed(box.id, chosen, simulated=True)

    def start(self, claimed: Claimed) -> None:
        self.machine.asked()
        box = self.machine.get(claimed.container)
        if box is None:
            raise NotThatSession(f"{claimed.container} is gone")
        bad = self.machine.unusable & set(box.devices)
        if bad:
            raise DeviceUnusable("the device does not come up", tuple(sorted(bad)))
        self.machine.run(box)

    def let_go(self, claimed: Claimed) -> None:
        return None

    def find(self, name: str, *, quick: bool = False) -> Found | None:
        self.machine.asked()
        box = self.machine.get(name)
        if box is None:
            return None
        return Found(box.id, self._ours(box), box.state == "running", box.end, box.env)

    def log_tail(self, container: str) -> str:
        box = None if self.machine.away else self.machine.get(container)
        return "\n".join(box.printed[-50:]) if box is not None else ""

    def retire(self, target: str, session: str, grace: int) -> Retired:
        self.machine.asked()
        box = self.machine.get(target)
        if box is None:
            return Retired(None)
        labels = self._ours(box)
        if labels is None or labels.session != session:
            raise NotThatSession(f"{target[:63]} is not that session's; nothing was done")
        tail = self.log_tail(box.id)
        ended = of_session(labels, box.end, tail)
        self.machine.end(box, 143, signal=15)
        self.machine.remove(box)
        return Retired(labels, tail, ended or of_session(labels, box.end, tail))

    def discard(self, name: str, session: str) -> bool:
        self.machine.asked()
        box = self.machine.get(name)
        labels = self._ours(box) if box is not None else None
        if box is None or labels is None or labels.session != session:
            return False
        self.machine.remove(box)
        return True

    # --- ends, use and care ---------------------------------------------------------------------

    def how_ended(self, container: str) -> EndEvidence:
        box = None if self.machine.away else self.machine.get(container)
        return box.end if box is not None else EndEvidence()

    def how_vanished(self, session: str, since: datetime, now: datetime) -> EndEvidence:
        found = self.machine.gone.get(session, EndEvidence())
        known = not self.machine.away and found.ended_at is not None and since <= found.ended_at <= now
        return found if known else EndEvidence()

    def counters(self, sessions: Iterable[EngineSession]) -> Mapping[str, Counters]:
        return {s.container: Counters() for s in sessions}

    def tidy(self, now: datetime) -> list[str]:
        self.machine.asked()
        return []

    def in_order(self, pool: Pool, name: str | None, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(self._threads.submit(pool, name, work))


def _now() -> datetime:
    return datetime.now(timezone.utc)


if TYPE_CHECKING:
    _conforms: type[Engine] = FakeEngine
