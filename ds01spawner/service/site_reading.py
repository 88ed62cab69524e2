"""One reading of the machine, shared by every page and call of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from ..core.errors import DS01Error
from ..core.lastgood import WAIT_S, LastGood
from ..engines.base import EngineState
from ..gpu import GpuReading
from ..placement import status
from ..placement.devices import Block, DeviceStatus
from ..policy.resolve import Person
from ..site import Site

TTL_S = 4.0
"""A page asks every 5 s, so what it shows is never older than 10 s while the engine answers soon."""
OLDEST_S = 30.0
"""Seconds for which the last good reading is shown where no newer one comes."""
PATIENCE_S = 0.2
"""Seconds that a reading for pages waits for containers which the engine has locked; it works on some for as
long as a minute. They count as holding every device until it tells."""
CHANGED_S = 5.0
"""Seconds that somebody who has changed something waits at most to see it."""
NOTHING = EngineState((), ())


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
    """One reading for all who ask, made in a thread of its own at most once every `TTL_S`.

    Whoever only looks gets the last good one where the next takes longer than a moment: the engine may be
    busy with what another person does. It carries the time at which it was made.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._readings = LastGood(lambda: read(site), "ds01-snapshot")

    async def get(self, max_age: float = TTL_S, wait: float = WAIT_S) -> Snapshot:
        """A reading at most ``max_age`` seconds old where there is one within ``wait`` seconds."""
        asked = asyncio.wrap_future(self._readings.ask(max_age))
        await asyncio.wait({asked}, timeout=wait)
        last = self._readings.last
        if asked.done() or last is None:
            return await asked
        asked.add_done_callback(_heard)
        return last if self._readings.age <= OLDEST_S else unknown(last, "it has not answered lately")

    async def renewed(self) -> Snapshot:
        """A reading that begins now. For whoever changed something just now, or decides by what it says."""
        return await asyncio.wrap_future(self._readings.ask(0))

    async def changed(self) -> None:
        """Our own doing has changed the machine: whoever did it waits until readings show that, not the next
        who asks."""
        await self.get(0, CHANGED_S)

    def forget(self) -> None:
        """The machine has changed by our own doing: the next to ask has it read anew."""
        self._readings.forget()

    @property
    def age(self) -> float | None:
        """Seconds since the last reading, None before the first."""
        return self._readings.age if self._readings.last is not None else None


def _heard(asked: asyncio.Future[Snapshot]) -> None:
    """A reading that no one waited for has ended, perhaps badly; the next to ask sees that itself."""
    if not asked.cancelled():
        asked.exception()


def unknown(last: Snapshot, why: str) -> Snapshot:
    """What is known once the last reading is too old to be shown: which devices there are, and no holder."""
    return replace(
        last,
        ledger=NOTHING,
        blocks={**last.blocks, **_unready(last.reading)},
        problem=f"The container engine cannot be asked: {why}",
        engine=False,
    )


def _unready(reading: GpuReading) -> dict[str, Block]:
    block = Block("unready", "it is not known just now who uses it")
    return {d.uuid: block for d in reading.inventory.devices}


def read(site: Site) -> Snapshot:
    """Read GPUs, engine and store once. Blocking. What cannot be read makes nothing look free."""
    now = datetime.now(timezone.utc)
    reading = site.engine.inventory()
    blocks: dict[str, Block] = dict(site.blocks(now))
    try:
        ledger = site.engine.look(patience=PATIENCE_S)
        answers = True
        blocks = site.obstacles(reading.inventory, now)
        problem = ""
    except DS01Error as error:
        ledger, answers = NOTHING, False
        problem = f"The container engine cannot be asked: {error}"
        blocks |= _unready(reading)
    if reading.inventory.state != "ok" and not problem:
        problem = reading.inventory.reason
    return Snapshot(now, reading, ledger, blocks, problem, answers)
