"""One reading of the machine, shared by every page and call of the service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from ..core.errors import DS01Error
from ..engines.base import EngineState
from ..gpu import GpuReading
from ..placement import status
from ..placement.model import Block, DeviceStatus
from ..policy.resolve import Person
from ..site import Site

TTL_S = 4.0
"""A page asks every 5 s, so what it shows is never older than 10 s."""


@dataclass(frozen=True)
class Snapshot:
    """What one reading told. ``problem`` says what could not be read; then nothing counts as free."""

    at: datetime
    reading: GpuReading
    ledger: EngineState
    blocks: Mapping[str, Block]
    problem: str = ""
    engine: bool = True
    """Whether the engine answered; if not, the ledger is empty because nobody knows."""

    def statuses(self, person: Person | None = None) -> tuple[DeviceStatus, ...]:
        """Every device as ``person`` may use it: their own holds and reservations do not bar them."""
        keys: frozenset[str] = frozenset()
        if person is not None:
            keys = frozenset({f"user:{person.name}", *(f"group:{g}" for g in person.groups)})
        return status(self.reading.inventory, self.ledger.holdings, self.blocks, keys=keys)

    @property
    def updated(self) -> str:
        """When it was read, ISO 8601."""
        return self.at.isoformat(timespec="seconds")


class Snapshots:
    """Reads at most once every `TTL_S`, in a thread, whatever the number of those who ask."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._last: Snapshot | None = None
        self._read_at = 0.0
        self._reading: asyncio.Task[Snapshot] | None = None

    async def get(self, max_age: float = TTL_S) -> Snapshot:
        """A reading at most ``max_age`` seconds old; those who ask at the same time share one."""
        if self._last is not None and time.monotonic() - self._read_at <= max_age:
            return self._last
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._read())
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """The machine has changed by our own doing: the next to ask reads anew."""
        self._read_at = -TTL_S

    @property
    def age(self) -> float | None:
        """Seconds since the last reading, None before the first."""
        return time.monotonic() - self._read_at if self._last is not None else None

    async def _read(self) -> Snapshot:
        began = time.monotonic()
        snapshot = await asyncio.to_thread(read, self._site)
        self._last, self._read_at = snapshot, began
        return snapshot


def read(site: Site) -> Snapshot:
    """Read GPUs, engine and store once. Blocking. What cannot be read makes nothing look free."""
    now = datetime.now(timezone.utc)
    reading = site.engine.inventory()
    blocks: dict[str, Block] = dict(site.blocks(now))
    try:
        ledger = site.engine.look()
        answers = True
        blocks = site.obstacles(reading.inventory, now)
        problem = ""
    except DS01Error as error:
        ledger, answers = EngineState((), ()), False
        problem = f"The container engine cannot be asked: {error}"
        unknown = Block("unready", "nobody can tell just now who uses it")
        blocks |= {d.uuid: unknown for d in reading.inventory.devices}
    if reading.inventory.state != "ok" and not problem:
        problem = reading.inventory.reason
    return Snapshot(now, reading, ledger, blocks, problem, answers)
