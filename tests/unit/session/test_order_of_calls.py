"""Engine calls of one container keep their order, whatever becomes of who asked; others do not wait."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from ds01spawner.engines.docker.client import KeyedExecutor


def test_one_key_keeps_order_across_pools():
    executor, done = KeyedExecutor(a=4, b=4), []
    futures = [
        executor.submit("ab"[n % 2], "k", lambda n=n: (time.sleep(0.01 * (5 - n)), done.append(n)))
        for n in range(5)
    ]
    for future in futures:
        future.result(5)
    assert done == [0, 1, 2, 3, 4]


def test_other_keys_do_not_wait():
    executor, gate = KeyedExecutor(a=2), threading.Event()
    slow = executor.submit("a", "one", gate.wait)
    assert executor.submit("a", "two", lambda: 42).result(5) == 42
    gate.set()
    assert slow.result(5)


async def test_a_removal_runs_after_the_create_that_was_cancelled():
    executor, made = KeyedExecutor(mutate=2, stop=2), []

    def create():
        time.sleep(0.1)
        made.append("container")

    creating = asyncio.wrap_future(executor.submit("mutate", "k", create))
    await asyncio.sleep(0.02)
    creating.cancel()
    await asyncio.wrap_future(executor.submit("stop", "k", made.clear))
    assert made == []
    await asyncio.sleep(0.15)
    assert made == []


async def test_what_was_cancelled_before_it_began_never_runs():
    executor, gate, done = KeyedExecutor(mutate=2), threading.Event(), []
    first = asyncio.wrap_future(executor.submit("mutate", "k", gate.wait))
    second = asyncio.wrap_future(executor.submit("mutate", "k", lambda: done.append("second")))
    third = asyncio.wrap_future(executor.submit("mutate", "k", lambda: done.append("third")))
    second.cancel()
    await asyncio.sleep(0)  # asyncio hands a cancellation on to the executor in the loop's next turn
    gate.set()
    await asyncio.gather(first, third)
    assert done == ["third"]


def test_a_failure_does_not_hold_up_the_next():
    executor = KeyedExecutor(a=1)
    failing = executor.submit("a", "k", lambda: 1 / 0)
    assert executor.submit("a", "k", lambda: "next").result(5) == "next"
    with pytest.raises(ZeroDivisionError):
        failing.result()
