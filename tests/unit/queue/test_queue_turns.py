"""Starts take turns: in the order of asking, a few at a time, whoever gives up or fails."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.queue import turns as turns_module
from ds01spawner.queue.pace import Pace
from ds01spawner.queue.turns import Turns, pace_for


@pytest.mark.parametrize(
    ("cpus", "fixed", "expected"),
    [
        (1, 0, (2, 2, 3)),
        (2, 0, (3, 2, 4)),
        (4, 0, (6, 4, 8)),
        (64, 0, (96, 64, 128)),
        (0, 0, (2, 2, 3)),
        (64, 5, (5, 5, 5)),
    ],
)
def test_the_pace_follows_the_processors_unless_the_site_says(cpus, fixed, expected):
    pace = pace_for(cpus, fixed)
    assert (pace.width, pace.least, pace.most) == expected


def fixed(width: int) -> Turns:
    return Turns(pace_for(1, width), clock=lambda: 0.0)


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_order_is_that_of_asking_not_of_being_ready():
    turns, came = fixed(1), []
    first, second, third = turns.draw(), turns.draw(), turns.draw()
    await first.come()

    async def run(turn, name):
        await turn.come()
        came.append(name)
        turn.end()

    tasks = [asyncio.create_task(run(third, "third"))]
    await settle()
    tasks.append(asyncio.create_task(run(second, "second")))
    await settle()
    assert (came, turns.booting, turns.waiting) == ([], 1, 2)
    first.end()
    await asyncio.gather(*tasks)
    assert came == ["second", "third"]
    assert (turns.booting, turns.waiting) == (0, 0)


async def test_a_start_that_is_ready_waits_a_moment_for_one_before_it_but_not_for_ever(monkeypatch):
    monkeypatch.setattr(turns_module, "PATIENCE_S", 0.05)
    turns, came = Turns(pace_for(1, 1)), []
    slow, quick = turns.draw(), turns.draw()

    async def run(turn, name):
        await turn.come()
        came.append(name)
        turn.end()

    first = asyncio.create_task(run(quick, "quick"))
    await settle()
    await run(slow, "slow")
    await first
    assert came == ["slow", "quick"]
    turns.draw()  # prepares for ever
    await asyncio.wait_for(run(turns.draw(), "later"), 1)
    assert came == ["slow", "quick", "later"]


async def test_nobody_waits_for_one_who_prepares_for_long():
    now = [0.0]
    turns = Turns(pace_for(1, 1), clock=lambda: now[0])
    turns.draw()
    now[0] = 6.0
    quick = turns.draw()
    await asyncio.wait_for(quick.come(), 0.2)
    assert quick.waited == 0.0


async def test_each_is_told_how_many_are_before_it_once_for_each_change():
    turns, told = fixed(2), []
    running = [turns.draw() for _ in range(2)]
    for turn in running:
        await turn.come()
    waiting = [turns.draw(lambda n, i=i: told.append((i, n))) for i in range(3)]
    tasks = [asyncio.create_task(t.come()) for t in waiting]
    await settle()
    assert told == [(0, 1), (1, 2), (2, 3)]
    running[0].end()
    assert told[3:] == [(1, 1), (2, 2)]
    running[0].end()
    assert told[5:] == []
    running[1].end()
    for turn in waiting:
        turn.end()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("let_through", [False, True])
async def test_a_cancelled_start_gives_its_place_up(let_through):
    turns = fixed(1)
    first, second, third = turns.draw(), turns.draw(), turns.draw()
    await first.come()
    gone = asyncio.create_task(second.come())
    last = asyncio.create_task(third.come())
    await settle()
    if let_through:
        first.end()  # its turn has come, and it is cancelled before it knows
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    first.end()
    await asyncio.wait_for(last, 1)
    assert (turns.booting, turns.waiting) == (1, 0)


async def test_waiting_is_counted_and_booting_is_not():
    now = [10.0]
    turns = Turns(pace_for(1, 1), clock=lambda: now[0])
    first, second = turns.draw(), turns.draw()
    await first.come()
    assert (first.waited, second.waited, second.waiting) == (0.0, 0.0, False)
    task = asyncio.create_task(second.come())
    await settle()
    now[0] = 14.0
    assert (second.waited, second.waiting) == (4.0, True)
    first.end()
    await task
    now[0] = 20.0
    assert (second.waited, second.waiting) == (4.0, False)


async def test_boots_that_take_long_slow_the_pace_and_failures_teach_nothing():
    now = [0.0]
    turns = Turns(Pace(3, least=2, most=6), clock=lambda: now[0])

    async def boot(seconds, answered=True):
        turn = turns.draw()
        await turn.come()
        now[0] += seconds
        turn.end(answered=answered)

    for _ in range(3):
        await boot(3)
    assert turns.pace.width == 4
    await boot(100, answered=False)
    assert turns.pace.width == 4
    for _ in range(8):
        await boot(30)
    assert turns.pace.width == 2


@given(st.lists(st.sampled_from(["ask", "end", "cancel"]), max_size=60), st.integers(1, 4))
def test_never_more_than_the_width_and_nobody_is_left_behind(steps, width):
    async def play():
        turns, waiting, running = fixed(width), [], []
        for step in steps:
            if step == "ask":
                turn = turns.draw()
                waiting.append((turn, asyncio.create_task(turn.come())))
            elif step == "end" and running:
                running.pop(0)[0].end()
            elif step == "cancel" and waiting:
                waiting.pop()[1].cancel()
            await settle()
            running += [w for w in waiting if w[1].done() and not w[1].cancelled()]
            waiting = [w for w in waiting if not w[1].done()]
            assert turns.booting == len(running) <= width
            assert not waiting or len(running) == width
            assert [t.number for t, _ in waiting] == sorted(t.number for t, _ in waiting)
        while running or waiting:
            for turn, _ in running:
                turn.end()
            await settle()
            running = [w for w in waiting if w[1].done()]
            waiting = [w for w in waiting if not w[1].done()]
        assert (turns.booting, turns.waiting) == (0, 0)

    asyncio.run(play())


async def test_a_few_prepare_at_a_time_in_the_order_of_asking():
    turns, at_desk = fixed(1), []
    starts = [turns.draw() for _ in range(5)]

    async def prepare(number):
        await starts[number].prepare()
        at_desk.append(number)

    tasks = [asyncio.create_task(prepare(n)) for n in range(5)]
    await settle()
    assert at_desk == [0, 1]
    await starts[0].come()  # ready to boot: it has left the environment service
    await settle()
    assert at_desk == [0, 1, 2]
    starts[1].aside()  # its image is fetched now
    await settle()
    assert at_desk == [0, 1, 2, 3]
    tasks[4].cancel()
    starts[2].end()
    await settle()
    starts[3].end()
    late = turns.draw()
    await asyncio.wait_for(late.prepare(), timeout=5)  # a place given up is not lost


async def test_who_prepares_for_long_leaves_the_desk_to_others(monkeypatch):
    monkeypatch.setattr(turns_module, "PREPARES_S", 0.02)
    turns = fixed(1)
    slow = [turns.draw() for _ in range(turns_module.PREPARE_AT_ONCE)]
    for turn in slow:
        await turn.prepare()
    await asyncio.wait_for(turns.draw().prepare(), timeout=5)
    for turn in slow:
        turn.end()


async def test_waiting_to_prepare_is_waiting_too():
    now = [0.0]
    turns = Turns(pace_for(1, 1), clock=lambda: now[0])
    holders = [turns.draw() for _ in range(turns_module.PREPARE_AT_ONCE)]
    for turn in holders:
        await turn.prepare()
    turn = turns.draw()
    task = asyncio.create_task(turn.prepare())
    await settle()
    now[0] = 7.0
    assert (turn.waiting, turn.waited) == (True, 7.0)
    holders[0].end()
    await task
    now[0] = 9.0
    assert (turn.waiting, turn.waited) == (False, 7.0)


async def test_after_a_lull_only_as_many_boot_as_boot_at_full_speed_until_one_answers():
    turns = Turns(Pace(4, least=2, most=4), clock=lambda: 0.0)
    starts = [turns.draw() for _ in range(6)]
    tasks = [asyncio.create_task(turn.come()) for turn in starts]
    await settle()
    assert (turns.booting, turns.waiting) == (2, 4)
    starts[0].end()  # failed: nothing is known yet
    await settle()
    assert turns.booting == 2
    starts[1].end(answered=True)
    await settle()
    assert (turns.booting, turns.waiting) == (4, 0)
    for turn in starts:
        turn.end(answered=True)
    again = [turns.draw() for _ in range(3)]
    tasks += [asyncio.create_task(turn.come()) for turn in again]
    await settle()
    assert turns.booting == 2
    again[0].end(answered=True)
    await asyncio.gather(*tasks)


async def test_a_boot_that_never_answers_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(turns_module, "HOLDS_S", 0.02)
    turns = fixed(1)
    hangs, other = turns.draw(), turns.draw()
    await hangs.come()
    await asyncio.wait_for(other.come(), timeout=5)
    assert turns.booting == 1
    hangs.end()  # given up by its own time limit, long after
    assert turns.booting == 1
    other.end(answered=True)
    assert (turns.booting, turns.waiting) == (0, 0)


async def test_requests_go_on_one_at_a_time_and_others_are_served_in_between(monkeypatch):
    monkeypatch.setattr(turns_module, "ARRIVES_S", 0.02)
    turns, came, served = Turns(pace_for(1, 1)), [], []

    async def arrive(number):
        await turns.arrive()
        came.append((number, len(served)))

    async def serve():
        while True:
            await asyncio.sleep(0.001)
            served.append(1)

    others = asyncio.create_task(serve())
    tasks = [asyncio.create_task(arrive(n)) for n in range(4)]
    tasks[2].cancel()  # gives its place up, and nobody else's
    await asyncio.gather(*tasks, return_exceptions=True)
    others.cancel()
    assert [n for n, _ in came] == [0, 1, 3]
    assert came[0][1] == 0  # the first waits for nobody
    assert came[0][1] < came[1][1] < came[2][1]


async def test_who_waits_to_prepare_is_told_how_many_are_before():
    turns, told, at_turn = fixed(1), [], []
    starts = [turns.draw(at_turn.append, lambda n, i=i: told.append((i, n))) for i in range(5)]
    tasks = [asyncio.create_task(turn.prepare()) for turn in starts]
    await settle()
    assert told == [(2, 2), (3, 3), (4, 4)]
    told.clear()
    starts[0].end()
    await settle()
    assert told == [(3, 2), (4, 3)]
    assert at_turn == []
    for turn in starts:
        turn.end()
    await asyncio.gather(*tasks)
