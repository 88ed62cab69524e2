"""New projects take turns: one of each person at a time, and a few of all."""

from __future__ import annotations

import asyncio

from ds01spawner.engines.docker import fetching


async def test_one_of_each_person_and_a_few_of_all():
    running: list[str] = []
    most = {"all": 0, "alice": 0}

    async def make(user: str) -> None:
        async with fetching.turn(user):
            running.append(user)
            most["all"] = max(most["all"], len(running))
            most["alice"] = max(most["alice"], running.count("alice"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            running.remove(user)

    people = [f"user-{n}" for n in range(3 * fetching.AT_ONCE)]
    await asyncio.gather(*(make(user) for user in ["alice"] * 5 + people + ["alice"] * 5))
    assert most == {"all": fetching.AT_ONCE, "alice": 1}


async def test_whoever_is_cancelled_gives_the_place_up():
    async def hold() -> None:
        async with fetching.turn("alice"):
            await asyncio.sleep(60)

    first, second = asyncio.ensure_future(hold()), asyncio.ensure_future(hold())
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)

    async def quick() -> bool:
        async with fetching.turn("alice"):
            return True

    assert await asyncio.wait_for(quick(), 5)
