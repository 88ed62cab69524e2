"""One person's requests leave the others room."""

from __future__ import annotations

import asyncio

import pytest

from ds01spawner.service.turns import CHANGES, READS, WAITING, TooMany, Turns


class Work:
    """Requests that last until they are let go."""

    def __init__(self) -> None:
        self.turns, self.go, self.now, self.most = Turns(), asyncio.Event(), 0, 0

    async def request(self, person: str, changes: bool = True) -> None:
        async with self.turns.of(person, changes):
            self.now += 1
            self.most = max(self.most, self.now)
            await self.go.wait()
            self.now -= 1


async def settled(rounds: int = 10) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("changes", "most"), [(True, CHANGES), (False, READS)])
async def test_thirty_requests_are_worked_on_a_few_at_a_time_and_another_persons_at_once(changes, most):
    work = Work()
    tasks = [asyncio.create_task(work.request("eve", changes)) for _ in range(30)]
    await settled()
    assert work.now == most
    tasks.append(asyncio.create_task(work.request("nina", changes)))
    await settled()
    assert work.now == most + 1
    work.go.set()
    await asyncio.gather(*tasks)
    assert (work.now, work.most) == (0, most + 1)
    assert work.turns._places == {}, "nothing is kept of who has asked"


async def test_who_waits_for_too_many_is_refused_and_who_gives_up_leaves_the_place():
    work = Work()
    tasks = [asyncio.create_task(work.request("eve")) for _ in range(CHANGES + WAITING)]
    await settled()
    with pytest.raises(TooMany):
        await work.request("eve")
    for task in tasks[CHANGES:]:
        task.cancel()
    await asyncio.gather(*tasks[CHANGES:], return_exceptions=True)
    more = asyncio.create_task(work.request("eve"))
    work.go.set()
    await asyncio.gather(*tasks[:CHANGES], more)
    assert work.turns._places == {}
