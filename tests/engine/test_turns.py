"""Starts take turns on a real engine: in order, with their devices, and not timed out by others."""

from __future__ import annotations

import asyncio

import pytest

from ds01spawner.hub.http_errors import SessionRefused

SLOW = ["sh", "-c", "sleep 4; httpd -f -p 8888"]
ONE_BY_ONE = {"c_boots_at_once": 1, "c_boot_timeout": 20, "c_start_timeout": 200}


def said(spawner):
    return [e["message"] for e in spawner.progress_log.events if e["step"] == "turn"]


async def finish(start, name, order):
    try:
        return await start
    finally:
        order.append(name)


async def test_in_order_with_progress_and_without_losing_time_of_their_own(spawner, engine):
    names = ["alice", "bob", "carol", "dan", "erin", "frank"]
    rooms = [spawner(n, c_cmd=SLOW, **ONE_BY_ONE) for n in names]
    order, tasks = [], []
    for name, room in zip(names, rooms, strict=True):
        tasks.append(asyncio.ensure_future(finish(room.start(), name, order)))
        await asyncio.sleep(0)
    # Together they take longer than a start's own work may; waiting for one's turn is no work.
    await asyncio.gather(*tasks)
    assert order == names
    assert said(rooms[0]) == []
    assert said(rooms[2])[-1] == "Its turn has come"
    assert said(rooms[2])[-2] == "1 start is before yours: the machine boots a few sessions at a time"
    assert rooms[0].turns.booting == rooms[0].turns.waiting == 0


async def test_whoever_gets_no_device_is_told_at_once_not_when_its_turn_comes(spawner):
    first = spawner("alice", gpu="3g.40gb", c_cmd=SLOW, **ONE_BY_ONE)
    second = spawner("bob", gpu="3g.40gb", c_cmd=SLOW, **ONE_BY_ONE)
    running = asyncio.ensure_future(first.start())
    while not any(e["step"] == "device" for e in first.progress_log.events):
        await asyncio.sleep(0.02)
    with pytest.raises(SessionRefused, match="none is free"):
        await second.start()
    assert not running.done()
    await running


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_a_start_that_ends_badly_lets_the_next_one_go(spawner, engine, end):
    bad = spawner("alice", c_cmd=["sh", "-c", "sleep 4; exit 3"], **ONE_BY_ONE)
    good = spawner("bob", **ONE_BY_ONE)
    first = asyncio.ensure_future(bad.start())
    while bad.turns.booting == 0:
        await asyncio.sleep(0.02)
    second = asyncio.ensure_future(good.start())
    while good.turns.waiting == 0:
        await asyncio.sleep(0.02)
    if end == "is cancelled":
        first.cancel()
    with pytest.raises((SessionRefused, asyncio.CancelledError)):
        await first
    await second
    assert good.turns.booting == 0
    if bad.starting.discarding is not None:
        await bad.starting.discarding


async def test_a_turn_that_never_comes_says_so(spawner, hub_id, engine):
    first = spawner("alice", c_cmd=["sh", "-c", "sleep 60"], c_start_timeout=60, c_boots_at_once=1)
    crowded = spawner("bob", **{**ONE_BY_ONE, "c_start_timeout": 10})
    running = asyncio.ensure_future(first.start())
    while first.turns.booting == 0:
        await asyncio.sleep(0.02)
    with pytest.raises(SessionRefused, match="its turn did not come") as refused:
        await crowded.start()
    assert refused.value.status_code == 503
    running.cancel()
    with pytest.raises((SessionRefused, asyncio.CancelledError)):
        await running
    if first.starting.discarding is not None:
        await first.starting.discarding
