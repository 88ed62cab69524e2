"""``/metrics`` of the service for Prometheus, from the shared reading."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from ...core import lag
from ...core.errors import StoreError
from ...idle.idle_document import PublishedJson
from ...idle.state import IdleFiles
from ...policy.load import PolicyWatcher
from ..handler_base import ApiHandler
from ..site_reading import Snapshot


class Metrics(ApiHandler):
    """For people and services of the hub with a token that may use this service."""

    allow_services = True

    async def get(self) -> None:
        """The state of the machine now."""
        snapshot = await self.ctx.snapshots.get()
        found = registry(snapshot, self.ctx.snapshots.age or 0.0)
        await asyncio.to_thread(add_policy, found, self.ctx.site.policy)
        files = IdleFiles(self.ctx.settings.state_dir)
        add_idle(found, await asyncio.to_thread(files.published, self.ctx.clock()))
        found.register(lag.SECONDS)
        with suppress(StoreError):
            add_ends(found, await self.ctx.store(lambda store: store.ends.by_kind()))
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(found))


def registry(snapshot: Snapshot, age: float) -> CollectorRegistry:
    """The metrics of one reading."""
    found = CollectorRegistry()
    devices = Gauge("ds01_devices", "Devices by profile and state", ["profile", "state"], registry=found)
    statuses = snapshot.statuses()
    for (profile, state), count in collections.Counter((s.profile, s.state) for s in statuses).items():
        devices.labels(profile, state).set(count)
    held = Gauge("ds01_gpu_equivalents_held", "GPU-equivalents not free", registry=found)
    held.set(sum(s.equivalents for s in statuses if s.state in ("held", "foreign")))
    sessions = Gauge("ds01_sessions", "Sessions by state of their container", ["state"], registry=found)
    for word, number in collections.Counter(r.state for r in snapshot.ledger.sessions).items():
        sessions.labels(word).set(number)
    Gauge("ds01_reading_age_seconds", "Age of the reading these come from", registry=found).set(age)
    Gauge("ds01_reading_ok", "1 when GPUs and engine could be read", registry=found).set(not snapshot.problem)
    return found


def add_ends(found: CollectorRegistry, kinds: Mapping[str, int]) -> None:
    """How sessions ended, as history has it."""
    ends = Gauge("ds01_sessions_ended", "Sessions in history by how they ended", ["kind"], registry=found)
    for kind, count in kinds.items():
        ends.labels(kind).set(count)


def add_policy(found: CollectorRegistry, policy: PolicyWatcher) -> None:
    """Whether the policy file on disk is the one in force. Reads the file where it has changed."""
    policy.current()
    ok = Gauge(
        "ds01_policy_ok", "0 while a broken policy file leaves the last good one in force", registry=found
    )
    ok.set(not policy.problem)
    Gauge("ds01_policy_generation", "Policies taken into force since the start", registry=found).set(
        policy.generation
    )


def add_idle(found: CollectorRegistry, published: PublishedJson | None) -> None:
    """What the idle service last published; nothing before it first did."""
    if published is None:
        return
    counters = published.get("counters") or {}
    about = {
        "passes": ("Looks at all sessions since the idle service began", counters.get("passes", 0)),
        "failures": ("Looks that failed; their time counts for nobody", counters.get("failures", 0)),
    }
    for name, (text, count) in about.items():
        Counter(f"ds01_idle_{name}", text, registry=found).inc(count)
    retired = Counter("ds01_idle_retired", "Sessions stopped by the idle service", ["cause"], registry=found)
    for cause in ("idle", "lifetime", "deadline"):
        retired.labels(cause).inc((counters.get("retired") or {}).get(cause, 0))
    states = Gauge("ds01_idle_sessions", "Sessions by the last idle decision", ["state"], registry=found)
    for state in ("active", "idle", "warned", "retire"):
        states.labels(state).set(sum(s.get("state") == state for s in published["sessions"]))
    seconds = Gauge("ds01_idle_pass_seconds", "What the last look took", registry=found)
    seconds.set(counters.get("pass_seconds", 0))
    age = Gauge("ds01_idle_age_seconds", "Time since the last look that did not fail", registry=found)
    age.set(published["age"])


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [(r"metrics", Metrics)]
