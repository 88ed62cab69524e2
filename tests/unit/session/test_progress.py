"""What browsers see of a start that goes on, and of its last moment."""

from __future__ import annotations

import asyncio

from jupyterhub.utils import iterate_until

from ds01spawner.hub.progress import Progress


async def followed(log: Progress, over: asyncio.Future[None]) -> list[str]:
    """The steps that the hub hands on to one browser until the start is over."""
    return [event["step"] async for event in iterate_until(over, log.follow())]


async def test_the_last_step_is_seen_although_the_start_is_over_at_once():
    log, over = Progress(), asyncio.get_running_loop().create_future()
    browsers = [asyncio.ensure_future(followed(log, over)) for _ in range(3)]
    log.step("started")
    await asyncio.sleep(0.05)
    log.step("jupyter")
    log.finish()
    for _ in range(3):  # the hub itself needs more turns of its loop than these to look at the new server
        await asyncio.sleep(0)
    over.set_result(None)
    assert await asyncio.gather(*browsers) == [["started", "jupyter"]] * 3


async def test_what_is_added_while_a_browser_reads_is_not_missed():
    log = Progress()
    log.step("checks")
    seen = []
    async for event in log.follow():
        seen.append(event["step"])
        if event["step"] == "checks":
            log.step("image")
            log.finish()
    assert seen == ["checks", "image"]


async def test_one_that_comes_late_sees_all_and_does_not_wait():
    log = Progress()
    log.step("checks")
    log.finish()
    assert [event["step"] async for event in log.follow()] == ["checks"]


async def test_a_start_that_fails_without_a_step_lets_its_browsers_go():
    log = Progress()
    browser = asyncio.ensure_future(followed(log, asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    log.finish()
    assert await asyncio.wait_for(browser, 30) == []
