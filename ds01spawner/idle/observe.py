"""One look at all sessions: every sensor asked at once, each failing for itself.

What a look costs: one list call of the engine (made by the caller), one walk over ``/proc``, one GPU
reading if a session holds a device, and two small requests to each session's own server.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar

from ..core.hub_client import HubServer
from ..core.lag import within
from ..engines.docker.engine_reader import Running
from ..gpu.reading import GpuReading
from ..workspace.session_files import ProjectFolder
from . import gpusignal
from .lab import LabClient
from .model import Kernels, Reading, Signals, failed, known, unsupported
from .sample import Meter, Sample

T = TypeVar("T")
log = logging.getLogger(__name__)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ELOOP)
"""Errors that say there is no such file for us, as opposed to a storage that does not answer."""


class Sampler(Protocol):
    """Reads the counters of containers; blocking."""

    def sample(self, containers: Collection[str]) -> dict[str, Sample]:
        """A look at each container that can be looked at."""


@dataclass(frozen=True)
class Look:
    """What one look found about a session."""

    signals: Signals
    keep_file: float | None = None
    """When ``.keep-alive`` was touched, None when none counts."""


@dataclass(frozen=True)
class Sensors:
    """The sensors of a site. ``gpu`` and the samplers block and are called in threads."""

    host: Sampler
    engine: Sampler | None
    """Asked when the host's processes cannot be seen from here."""
    lab: LabClient
    gpu: Callable[[], GpuReading]
    folder: Callable[[str, str], ProjectFolder]
    port: int = 8888
    timeout: float = 20.0


class Observer:
    """Looks at sessions and remembers the last looks, because activity is a difference."""

    def __init__(self, sensors: Sensors, window: float = 60.0) -> None:
        self._sensors = sensors
        self._meter = Meter(window)
        self._gpu_looks: dict[str, gpusignal.GpuLook] = {}
        self._where: dict[str, tuple[tuple[str, ...], str]] = {}
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="ds01-idle")

    def close(self) -> None:
        """End the threads that are not stuck in a call."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def look(
        self, running: Collection[Running], servers: Mapping[tuple[str, str], HubServer]
    ) -> dict[str, Look]:
        """Look at ``running`` now; the answer has every one of them, by session id."""
        counters, reading, kernels, folders = await asyncio.gather(
            self._count(running),
            self._gpu(running),
            asyncio.gather(*(self._kernels(r, servers) for r in running)),
            asyncio.gather(*(self._folder(r) for r in running)),
        )
        typing = await asyncio.gather(*(self._typing(r, servers, counters) for r in running))
        looks = {}
        for r in running:
            if server := servers.get((r.labels.user, r.labels.server)):
                self._where[r.labels.session] = (r.addresses, server.path)
        for r, kernel, (saved, keep), typed in zip(running, kernels, folders, typing, strict=True):
            signals = self._signals(r, counters, reading, kernel, saved)
            hub = servers.get((r.labels.user, r.labels.server))
            signals = _with_typing(_with_hub(signals, hub), typed)
            if keep.status == "failed":  # perhaps its owner just asked to keep it
                signals = _with_work(signals, keep.reason)
            looks[r.labels.session] = Look(signals, keep.value)
        return looks

    async def show_in_lab(self, session: str, text: str, level: str) -> bool:
        """Show a notice in the session's open JupyterLab; False where that cannot be done."""
        addresses, path = self._where.get(session, ((), ""))
        return await self._sensors.lab.notify(addresses, self._sensors.port, path, text, level)

    def keep_only(self, sessions: Iterable[str]) -> None:
        """Forget sessions that are gone."""
        alive = set(sessions)
        self._meter.keep_only(alive)
        self._where = {s: where for s, where in self._where.items() if s in alive}
        self._gpu_looks = {s: look for s, look in self._gpu_looks.items() if s in alive}

    def _signals(
        self,
        r: Running,
        counters: str,
        reading: GpuReading | str | None,
        kernels: Reading[Kernels],
        saved: Reading[datetime],
    ) -> Signals:
        session, meter = r.labels.session, self._meter
        lost: Reading[float] | None = failed(counters) if counters else None
        gpu, change = self._gpu_signals(r, reading)
        return Signals(
            kernels=kernels,
            work=failed(counters) if counters else meter.work(session),
            saved=saved,
            cpu=lost or meter.cpu(session),
            network=lost or meter.network(session),
            gpu=gpu,
            gpu_change=change,
        )

    def _gpu_signals(
        self, r: Running, reading: GpuReading | str | None
    ) -> tuple[Reading[float], Reading[float]]:
        uuids, session = r.labels.gpu_uuids, r.labels.session
        if not uuids:
            return gpusignal.NO_GPU, gpusignal.NO_GPU
        if reading is None or isinstance(reading, str):
            return failed(reading or "not asked"), failed(reading or "not asked")
        before = self._gpu_looks.get(session)
        load = gpusignal.load(reading, uuids, before)
        change = gpusignal.change(reading, uuids, before)
        if reading.inventory.state == "ok":
            self._gpu_looks[session] = gpusignal.look(reading, uuids, before)
        return load, change

    async def _count(self, running: Collection[Running]) -> str:
        """Add a look at everybody's counters; returns why that failed, empty when it did not."""
        containers = [r.container for r in running]
        samples = await self._guard(lambda: self._samples(containers), "its counters could not be read")
        if isinstance(samples, str):
            return samples
        at = time.monotonic()
        gone = Sample(None, None, None, missing="its processes are not visible")
        for r in running:
            self._meter.add(r.labels.session, at, samples.get(r.container, gone))
        return ""

    def _samples(self, containers: list[str]) -> dict[str, Sample]:
        """From the host's files, and from the engine what those do not tell."""
        found = self._sensors.host.sample(containers)
        open_ = [c for c in containers if c not in found or found[c].missing]
        if not open_ or self._sensors.engine is None:
            return found
        told = self._sensors.engine.sample(open_)
        return {**found, **{c: _merged(found.get(c), told[c]) for c in open_}}

    async def _gpu(self, running: Collection[Running]) -> GpuReading | str | None:
        if not any(r.labels.gpu_uuids for r in running):
            return None
        return await self._guard(self._sensors.gpu, "the GPU driver did not answer")

    async def _kernels(self, r: Running, servers: Mapping[tuple[str, str], HubServer]) -> Reading[Kernels]:
        server = servers.get((r.labels.user, r.labels.server))
        if server is None or not server.path:
            return failed("the hub does not know its server")
        try:
            ask = self._sensors.lab.kernels(r.addresses, self._sensors.port, server.path)
            return await within(ask, self._sensors.timeout)
        except asyncio.TimeoutError:
            return failed("its server did not answer in time")

    async def _typing(
        self, r: Running, servers: Mapping[tuple[str, str], HubServer], counters: str
    ) -> Reading[datetime | None] | None:
        """When a terminal was used, asked only where keystrokes cannot be seen; None elsewhere."""
        server = servers.get((r.labels.user, r.labels.server))
        if counters or server is None or self._meter.sees_typing(r.labels.session):
            return None
        try:
            ask = self._sensors.lab.terminals(r.addresses, self._sensors.port, server.path)
            return await within(ask, self._sensors.timeout)
        except asyncio.TimeoutError:
            return failed("its server did not answer in time")

    async def _folder(self, r: Running) -> tuple[Reading[datetime], Reading[float]]:
        """When something was saved, and the keep-alive file."""
        try:
            folder = self._sensors.folder(r.labels.user, r.labels.project)
        except (OSError, ValueError) as error:
            return unsupported(str(error)), unsupported(str(error))
        answer = await self._guard(lambda: _read_folder(folder), "its workspace does not answer")
        return answer if isinstance(answer, tuple) else (failed(answer), failed(answer))

    async def _guard(self, work: Callable[[], T], what: str) -> T | str:
        """Run blocking work with a time limit; a sentence when it fails."""
        future: Awaitable[T] = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await within(future, self._sensors.timeout)
        except asyncio.TimeoutError:
            return f"{what} within {self._sensors.timeout:.0f} s"
        except Exception as error:  # a sensor may fail in any way; the session is kept
            log.warning("%s: %r", what, error)
            return f"{what}: {error}"


def _read_folder(folder: ProjectFolder) -> tuple[Reading[datetime], Reading[float]]:
    try:
        keep, saved = folder.keep_alive(), folder.saved_at()
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return unsupported(f"its workspace is not readable: {error.strerror}"), unsupported("")
    return (
        known(saved) if saved else unsupported("the project is empty"),
        known(keep) if keep is not None else unsupported("there is no .keep-alive"),
    )


def _with_hub(signals: Signals, hub: HubServer | None) -> Signals:
    if hub is None or hub.last_activity is None:
        return replace(signals, hub=failed("no activity is recorded"))
    return replace(signals, hub=known(hub.last_activity))


def _merged(host: Sample | None, engine: Sample) -> Sample:
    """The engine's counters, with the keystrokes that only the host sees."""
    if host is None or not host.sees_typing:
        return engine
    return replace(engine, typed_at=host.typed_at, sees_typing=True)


def _with_typing(signals: Signals, typed: Reading[datetime | None] | None) -> Signals:
    if typed is None or typed.status == "unsupported" or signals.work.value is None:
        return signals
    if typed.status == "failed":
        return _with_work(signals, typed.reason)
    return replace(signals, work=known(replace(signals.work.value, typed_at=typed.value)))


def _with_work(signals: Signals, reason: str) -> Signals:
    return replace(signals, work=failed(reason))
