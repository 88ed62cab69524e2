"""Looks at every running session now and then, for the sparklines on its card."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from ...core.errors import DS01Error
from ...gpu import GpuReading
from ...gpu.reading import Activity
from ...policy.plan import SessionUse
from ..context import Context
from ..samples import INTERVAL_S, Samples

log = logging.getLogger(__name__)
_tasks: list[asyncio.Task[None]] = []


def routes() -> list[Any]:
    """It has no pages."""
    return []


async def start(context: Context) -> None:
    """Begin to look."""
    samples = Samples()
    context.extra["series"] = samples.series
    _tasks.append(asyncio.create_task(_keep_looking(context, samples)))


async def stop(context: Context) -> None:
    """Stop looking."""
    while _tasks:
        _tasks.pop().cancel()


async def _keep_looking(context: Context, samples: Samples) -> None:
    while True:
        try:
            await look(context, samples)
        except DS01Error as error:
            log.warning("Sessions could not be looked at: %s", error)
        except Exception:
            log.exception("Sessions could not be looked at")
        await asyncio.sleep(INTERVAL_S)


async def look(context: Context, samples: Samples) -> None:
    """One look at every running session of this hub."""
    snapshot = await context.snapshots.get()
    running = [r for r in snapshot.ledger.sessions if r.state == "running"]
    if snapshot.problem and not running:
        return
    looks = await asyncio.to_thread(context.site.engine.counters, running)
    at = time.monotonic()
    for record in running:
        labels = record.labels
        samples.add(
            labels.session,
            at,
            looks[record.container],
            cpus=_cpus(labels.limits),
            activity=_activity(snapshot.reading, labels.gpu_uuids) if labels.gpu_uuids else None,
            gpu_memory_mib=_memory(snapshot.reading, labels.gpu_uuids),
            layer=context.extra.get("layers", {}).get(labels.session),
            layer_limit=SessionUse.from_labels(labels).layer,
        )
    samples.keep_only(r.labels.session for r in running)


def _activity(reading: GpuReading, uuids: Sequence[str]) -> list[Activity]:
    return [reading.activity.get(uuid, Activity()) for uuid in uuids]


def _memory(reading: GpuReading, uuids: Sequence[str]) -> float | None:
    devices = reading.inventory.by_uuid()
    return float(sum(devices[u].memory_mib for u in uuids if u in devices)) or None


def _cpus(limits: str) -> float | None:
    try:
        found = json.loads(limits).get("cpus")
    except (ValueError, AttributeError):
        return None
    return float(found) if isinstance(found, (int, float)) else None
