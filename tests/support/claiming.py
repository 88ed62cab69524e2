"""A claim by placement alone: the engine's lock, the product's choice, and what the test creates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ds01spawner.engines.base import EngineState
from ds01spawner.engines.claiming import pick
from ds01spawner.engines.docker.claim import claim as claim_under_lock
from ds01spawner.gpu.reading import GpuReading
from ds01spawner.placement.devices import Block, GpuRequest, Placement


def claim(
    lock: Path,
    ledger: Any,
    gpus: Callable[[], GpuReading],
    blocks: Callable[[], Mapping[str, Block]],
    wanted: GpuRequest,
    create: Callable[[Placement], str],
    *,
    keys: frozenset[str] = frozenset(),
    timeout: float = 30.0,
    undo: Callable[[str], None] | None = None,
) -> tuple[Placement, str]:
    """GPUs, containers and blocks are read under the lock, in this order."""
    read: list[GpuReading] = []

    def state(reading: GpuReading) -> EngineState:
        found = ledger.read(reading.inventory, reading.processes, reading.former)
        return replace(found, reading=reading)

    def look() -> EngineState:
        read.append(gpus())
        return state(read[0])

    return claim_under_lock(
        lock,
        look,
        lambda held: pick(wanted, held, blocks(), keys=keys),
        create,
        timeout=timeout,
        again=lambda: state(replace(read[0], processes=())),
        undo=undo,
    )
