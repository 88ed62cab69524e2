"""Which source answers for this site, and a cached reader for event loops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone

from ..core.errors import InventoryError
from ..core.lag import within
from ..core.settings import Settings
from ..placement.devices import Inventory
from . import health_file
from .health import assess
from .nvml import TIMEOUT, read_nvml
from .reading import GpuReading, failed
from .simulated import read_simulated
from .xid import boot_id, read_xids

TTL = 5.0
"""Seconds a cached reading is good enough for pages; claims read anew."""


HEALTH_FILE = "gpu-health.json"


def read_gpu(settings: Settings, activity: bool = False, now: datetime | None = None) -> GpuReading:
    """One reading from the site's source, with what health has to say. Blocks for its time; never raises.

    ``activity`` adds the load of MIG slices where the card can tell it (some 0.12 s more). A source that
    cannot be read gives an inventory whose ``state`` is not ``ok``: it offers nothing and says why.
    """
    if settings.devices == "none":
        return GpuReading(
            Inventory(mode="none", reason="GPUs are switched off in the settings (devices = none)")
        )
    if settings.devices == "simulated":
        return _simulated(settings)
    if settings.devices not in ("auto", "nvml"):
        reason = f"devices = {settings.devices!r} is not known; use auto, nvml, simulated or none"
        return GpuReading(Inventory(mode="none", state="error", reason=reason))
    reading = read_nvml(activity)
    if settings.devices == "auto" and reading.inventory.state == "no-driver":
        return GpuReading(Inventory(mode="none", reason=reading.inventory.reason))
    return _with_health(reading, settings, now or datetime.now(timezone.utc))


def read_inventory(settings: Settings) -> Inventory:
    """The inventory part of `read_gpu`."""
    return read_gpu(settings).inventory


def _with_health(reading: GpuReading, settings: Settings, now: datetime) -> GpuReading:
    path = settings.state_dir / HEALTH_FILE
    before = health_file.load(path)
    if reading.inventory.state == "ok":
        reading = replace(reading, xids=read_xids() or (), boot=boot_id())
    after, reading = assess(before, reading, now)
    if after != before:
        health_file.save(path, after)
    return reading


def _simulated(settings: Settings) -> GpuReading:
    if settings.inventory is None:
        return _bad_simulation("devices = simulated needs a file: set inventory to its path")
    try:
        return read_simulated(settings.inventory)
    except InventoryError as error:
        return _bad_simulation(str(error))


def _bad_simulation(reason: str) -> GpuReading:
    return GpuReading(Inventory(mode="simulated", state="error", reason=reason))


class GpuReader:
    """Readings for one event loop: taken in a thread, one at a time, kept for ``ttl`` seconds.

    Callers that come while a reading is under way share it. A reading that does not come in time is an
    error reading; the loop is never blocked.
    """

    def __init__(
        self,
        settings: Settings,
        ttl: float = TTL,
        timeout: float = TIMEOUT + 2,
        read: Callable[[Settings, bool], GpuReading] = read_gpu,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.ttl = ttl
        self.timeout = timeout
        self._read = read
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ds01-gpu")
        self._cache: dict[bool, tuple[float, GpuReading]] = {}
        self._under_way: dict[bool, asyncio.Future[GpuReading]] = {}

    async def read(self, max_age: float | None = None, activity: bool = False) -> GpuReading:
        """A reading at most ``max_age`` seconds old (default ``ttl``; 0 always reads anew)."""
        age = self.ttl if max_age is None else max_age
        # A reading with activity answers for both.
        for kind in (activity, True):
            if kind in self._cache and 0 <= self._clock() - self._cache[kind][0] < age:
                return self._cache[kind][1]
        return await self._take(activity, fresh=age <= 0)

    async def inventory(self, max_age: float | None = None) -> Inventory:
        """The inventory part of `read`."""
        return (await self.read(max_age)).inventory

    def close(self) -> None:
        """Let the thread go; a reading that still runs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _take(self, activity: bool, fresh: bool) -> GpuReading:
        future = self._under_way.get(activity)
        # Who must have a new reading cannot share one that began before the question.
        if future is None or fresh:
            loop = asyncio.get_running_loop()
            started = self._clock()
            future = loop.run_in_executor(self._threads, self._read, self.settings, activity)
            self._under_way[activity] = future
            future.add_done_callback(lambda done: self._keep(activity, started, done))
        try:
            return await within(asyncio.shield(future), self.timeout)
        except (TimeoutError, asyncio.TimeoutError):
            return replace_mode(
                failed(f"the GPUs could not be read within {self.timeout:g} seconds"), self.settings
            )
        except Exception as error:
            return replace_mode(failed(f"the GPUs could not be read: {error}"), self.settings)

    def _keep(self, activity: bool, started: float, done: asyncio.Future[GpuReading]) -> None:
        if self._under_way.get(activity) is done:
            del self._under_way[activity]
        if not done.cancelled() and done.exception() is None:
            self._cache[activity] = (started, done.result())


def replace_mode(reading: GpuReading, settings: Settings) -> GpuReading:
    """The same failed reading, under the mode the settings ask for."""
    if settings.devices != "simulated":
        return reading
    return replace(reading, inventory=replace(reading.inventory, mode="simulated"))
