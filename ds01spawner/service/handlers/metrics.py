"""``/metrics`` of the service for Prometheus, from the shared reading."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from ..base import ApiHandler
from ..snapshot import Snapshot


class Metrics(ApiHandler):
    """For people and services of the hub with a token that may use this service."""

    allow_services = True

    async def get(self) -> None:
        """The state of the machine now."""
        snapshot = await self.ctx.snapshots.get()
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(registry(snapshot, self.ctx.snapshots.age or 0.0)))


def registry(snapshot: Snapshot, age: float) -> CollectorRegistry:
    """The metrics of one reading."""
    found = CollectorRegistry()
    devices = Gauge("ds01_devices", "Devices by profile and state", ["profile", "state"], registry=found)
    statuses = snapshot.statuses()
    for (profile, state), count in Counter((s.profile, s.state) for s in statuses).items():
        devices.labels(profile, state).set(count)
    held = Gauge("ds01_gpu_equivalents_held", "GPU-equivalents not free", registry=found)
    held.set(sum(s.equivalents for s in statuses if s.state in ("held", "foreign")))
    sessions = Gauge("ds01_sessions", "Sessions by state of their container", ["state"], registry=found)
    for word, number in Counter(r.state for r in snapshot.ledger.sessions).items():
        sessions.labels(word).set(number)
    Gauge("ds01_reading_age_seconds", "Age of the reading these come from", registry=found).set(age)
    Gauge("ds01_reading_ok", "1 when GPUs and engine could be read", registry=found).set(not snapshot.problem)
    return found


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [(r"metrics", Metrics)]
