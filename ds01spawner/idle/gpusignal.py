"""A session's GPU signals from one reading of the machine's GPUs. Plain values in and out.

Three answers that look alike are kept apart: the load is zero; this device has no counter for its load;
and the driver did not answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..gpu.reading import Activity, GpuReading
from .model import Reading, failed, known, unsupported

NO_GPU: Reading[float] = unsupported("the session has no GPU")


@dataclass(frozen=True)
class GpuLook:
    """What to remember of a session's devices for the next look: (memory in MiB, processes) by UUID.

    ``measured`` are the devices whose load could be measured in this look or an earlier one.
    """

    devices: dict[str, tuple[int | None, int | None]]
    measured: frozenset[str] = frozenset()


def look(reading: GpuReading, uuids: Sequence[str], before: GpuLook | None = None) -> GpuLook:
    """The look to remember."""
    found = {u: reading.activity.get(u, Activity()) for u in uuids}
    measured = {u for u, a in found.items() if a.utilisation is not None}
    return GpuLook(
        {u: (a.memory_mib, a.processes) for u, a in found.items()},
        frozenset(measured) | (before.measured if before else frozenset()),
    )


def load(reading: GpuReading, uuids: Sequence[str], before: GpuLook | None = None) -> Reading[float]:
    """The load of the busiest device, 0 to 1.

    A reading does not tell a missing counter from one that just failed; a device that had one does.
    """
    if not uuids:
        return NO_GPU
    problem = _problem(reading, uuids)
    if problem:
        return failed(problem)
    loads = [reading.activity.get(u, Activity()).utilisation for u in uuids]
    told = [v for v in loads if v is not None]
    busiest = max(told, default=0.0) / 100
    if len(told) == len(loads) or busiest > 0:
        return known(busiest)
    lost = [u for u, v in zip(uuids, loads, strict=True) if v is None and before and u in before.measured]
    if lost:
        return failed(f"the load of {lost[0]} could be measured before and now cannot")
    return unsupported("the load of this device cannot be measured")


def change(reading: GpuReading, uuids: Sequence[str], before: GpuLook | None) -> Reading[float]:
    """The largest change of memory in MiB since ``before``; infinity when processes came or went."""
    if not uuids:
        return NO_GPU
    problem = _problem(reading, uuids)
    if problem:
        return failed(problem)
    now = look(reading, uuids).devices
    if all(memory is None and processes is None for memory, processes in now.values()):
        return unsupported("neither memory nor processes of this device can be read")
    if before is None or before.devices.keys() != now.keys():
        return failed("its GPU was looked at once only; the next look tells")
    return _difference([(before.devices[u], now[u]) for u in now])


def _difference(
    pairs: Sequence[tuple[tuple[int | None, int | None], tuple[int | None, int | None]]],
) -> Reading[float]:
    largest = 0.0
    for (old_memory, old_processes), (memory, processes) in pairs:
        if (old_memory is None) != (memory is None) or (old_processes is None) != (processes is None):
            return failed("its GPU answered only in part")
        if old_processes != processes:
            return known(math.inf)
        largest = max(largest, abs(float((memory or 0) - (old_memory or 0))))
    return known(largest)


def _problem(reading: GpuReading, uuids: Sequence[str]) -> str:
    inventory = reading.inventory
    if inventory.state != "ok":
        return str(inventory.reason) or "the GPU driver did not answer"
    known_uuids = {d.uuid for d in inventory.devices}
    for uuid in uuids:
        block = inventory.blocks.get(uuid)
        if block is not None and block.state in ("lost", "unready"):
            return str(block.reason)
        if uuid not in known_uuids:
            return f"the device {uuid} is not there"
    return ""
