"""Many idle sessions whose time has come, on a real engine, with the real sensors."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import docker
import pytest
from idle_lab import FakeHub, make_service, start_bare

from ds01spawner.idle.model import Memory, Warned
from ds01spawner.idle.rules import from_policy
from ds01spawner.policy.model import Idle

PLAIN = replace(from_policy(Idle(), "the built-in policy", poll=100), start_grace=0)
RULES = replace(PLAIN, timeout=1800, warn_lead=600, max_gap=180)


class CountingClient(docker.APIClient):
    """Counts the lists of containers it is asked for."""

    lists = 0

    def containers(self, *args, **kwargs):
        CountingClient.lists += 1
        return super().containers(*args, **kwargs)


@pytest.mark.parametrize("count", [12, pytest.param(100, marks=pytest.mark.nightly)])
@pytest.mark.timeout(600)
async def test_sessions_are_retired_within_a_minute_of_their_time(
    engine, busybox_image, hub_id, tmp_path: Path, count, record_property
):
    users = [f"u{i:03d}" for i in range(count)]
    with ThreadPoolExecutor(4) as pool:
        labs = list(pool.map(lambda u: start_bare(engine, busybox_image, hub_id, tmp_path, u), users))
    hub = FakeHub(labs, away=tuple(users))
    client = CountingClient(version="auto", timeout=60)
    client.close = lambda: None
    service = make_service(lambda: client, hub_id, hub, tmp_path, RULES, 60.0, 60.0)
    await service.observe()  # the sensors' first look
    now = datetime.now(timezone.utc)
    early = now - timedelta(minutes=11)
    for lab in labs:
        session = lab.labels.session
        service.memory[session] = Memory(session, now, 1800.0, None, (Warned("idle", early, early),))

    await asyncio.sleep(1)
    CountingClient.lists = 0
    began = time.monotonic()
    cases = await service.one_pass()
    looked, lists = time.monotonic() - began, CountingClient.lists
    await service.settle()
    seconds = time.monotonic() - began

    assert {c.decision.state for c in cases} == {"retire"}, cases[0].decision.reason
    figures = {
        "sessions": count,
        "seconds": round(seconds, 1),
        "pass_seconds": round(looked, 2),
        "lists": lists,
    }
    print(json.dumps(figures))
    record_property("figures", figures)
    assert lists == 1
    assert len(hub.stopped) == count
    assert len(service.parts.book.reasons) == count
    assert client.containers(all=True, filters={"label": f"ds01.hub={hub_id}"}) == []
    assert seconds < 60
