"""One person's requests leave the others room."""

from __future__ import annotations

import asyncio

import pytest

from ds01spawner.service.places import ALL, THREADS, Kind, Places, TooMany


class Work:
    """Requests that last until they are let go."""

    def __init__(self) -> None:
        self.places, self.go, self.now, self.most = Places(), asyncio.Event(), 0, 0

    async def request(self, person: str, kind: Kind = Kind.CHANGE) -> None:
        async with self.places.of(person, kind):
            self.now += 1
            self.most = max(self.most, self.now)
            await self.go.wait()
            self.now -= 1


async def settled(rounds: int = 10) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", Kind)
async def test_requests_are_worked_on_a_few_at_a_time_and_another_persons_at_once(kind):
    work = Work()
    tasks = [asyncio.create_task(work.request("eve", kind)) for _ in range(kind.there)]
    await settled()
    assert work.now == kind.working
    tasks.append(asyncio.create_task(work.request("nina", kind)))
    await settled()
    assert work.now == kind.working + 1
    work.go.set()
    await asyncio.gather(*tasks)
    assert (work.now, work.most) == (0, kind.working + 1)
    assert work.places._places == {}, "nothing is kept of who has asked"
    assert len(work.places) == 0


@pytest.mark.parametrize("kind", Kind)
async def test_who_waits_for_too_many_is_refused_and_who_gives_up_leaves_the_place(kind):
    work = Work()
    tasks = [asyncio.create_task(work.request("eve", kind)) for _ in range(kind.there)]
    await settled()
    with pytest.raises(TooMany):
        await work.request("eve", kind)
    for task in tasks[kind.working :]:
        task.cancel()
    await asyncio.gather(*tasks[kind.working :], return_exceptions=True)
    more = asyncio.create_task(work.request("eve", kind))
    work.go.set()
    await asyncio.gather(*tasks[: kind.working], more)
    assert work.places._places == {}


async def test_kinds_are_counted_apart():
    """Who waits for changes of their own still reads."""
    work = Work()
    tasks = [asyncio.create_task(work.request("eve")) for _ in range(Kind.CHANGE.there)]
    await settled()
    tasks.append(asyncio.create_task(work.request("eve", Kind.READ)))
    await settled()
    assert work.now == Kind.CHANGE.working + 1
    work.go.set()
    await asyncio.gather(*tasks)


async def test_all_together_leave_threads_to_the_service_itself():
    work = Work()
    tasks = [asyncio.create_task(work.request(f"u{i}", Kind.READ)) for i in range(2 * THREADS)]
    await settled(50)
    assert work.now == ALL < THREADS
    work.go.set()
    await asyncio.gather(*tasks)
    assert work.places._places == {}


def test_one_person_cannot_take_more_than_a_few_of_all():
    assert sum(kind.working for kind in Kind) <= ALL / 8
