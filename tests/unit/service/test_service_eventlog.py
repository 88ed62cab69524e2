"""The site's own handlers get every event, once, and a handler that cannot be had stops nothing."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from ds01spawner.core.errors import StoreError
from ds01spawner.service.handlers import eventlog
from ds01spawner.store import Store

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
HEARD: list[str] = []


class Listener(logging.Handler):
    def emit(self, record):
        HEARD.append(json.loads(self.format(record))["action"])


def listener():
    return Listener()


@pytest.fixture
def store(tmp_path):
    HEARD.clear()
    store = Store.open(f"sqlite:///{tmp_path / 'ds01.sqlite'}")
    yield store
    store.close()


def context(store, *names):
    settings = SimpleNamespace(event_handlers=names)
    return SimpleNamespace(
        settings=settings, clock=lambda: NOW, site=SimpleNamespace(store=lambda: store), extra={}
    )


async def until(condition):
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(HEARD)


async def test_events_are_handed_on_in_order_and_once(store, caplog):
    store.events.add(NOW, "device", "drained", device="M0")
    served = context(store, f"{__name__}:listener", "no.such.module:thing")
    await eventlog.start(served)
    await until(lambda: HEARD == ["drained"])
    await eventlog.stop(served)
    assert "no.such.module:thing" in caplog.text
    store.events.add(NOW, "device", "undrained", device="M0")
    await eventlog.start(served)
    await until(lambda: len(HEARD) == 2)
    await eventlog.stop(served)
    assert HEARD == ["drained", "undrained"]
    assert served.extra == {}


async def test_a_store_that_is_down_is_waited_for(store):
    def down():
        raise StoreError("down")

    served = context(store, f"{__name__}:listener")
    served.site.store = down
    store.events.add(NOW, "device", "drained", device="M0")
    task = asyncio.create_task(eventlog.publish(served, interval=0.01))
    await asyncio.sleep(0.05)
    assert HEARD == []
    served.site.store = lambda: store
    await until(lambda: HEARD == ["drained"])
    task.cancel()


async def test_without_handlers_nothing_runs_and_nothing_counts_as_told(store):
    served = context(store)
    await eventlog.start(served)
    assert served.extra == {}
    await eventlog.stop(served)
