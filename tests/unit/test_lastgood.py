"""A shared reading: who looks waits a moment for it, who decides or changed something for a new one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from ds01spawner.core.lastgood import LastGood

LONG = 60.0


class Machine:
    """What is read: a number that changes, and a reading that lasts until it is let go."""

    def __init__(self) -> None:
        self.value, self.reads, self.most, self._now = 0, 0, 0, 0
        self.error: Exception | None = None
        self.free, self.inside = threading.Event(), threading.Semaphore(0)
        self.free.set()
        self._lock = threading.Lock()

    def read(self) -> int:
        with self._lock:
            self.reads += 1
            self._now += 1
            self.most = max(self.most, self._now)
        value = self.value  # as it is when the reading begins
        self.inside.release()
        assert self.free.wait(LONG)
        with self._lock:
            self._now -= 1
        if self.error:
            raise self.error
        return value


@pytest.fixture
def machine():
    made = Machine()
    yield made
    made.free.set()


@pytest.fixture
def readings(machine):
    return LastGood(machine.read, "test")


def test_a_fresh_reading_is_shared(machine, readings):
    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(lambda _: readings.get(LONG, LONG), range(20))) == {0}
    assert machine.reads == 1


def test_who_looks_gets_the_last_good_one_while_the_next_takes_long(machine, readings):
    assert readings.get(LONG, LONG) == 0
    machine.value, _ = 1, machine.free.clear()
    assert readings.get(0, 0.01) == 0
    assert readings.get(0, 0.01) == 0
    assert machine.most == 1, "one thread reads, however many ask"
    machine.free.set()
    assert readings.renew() == 1
    assert readings.last == 1


def test_the_first_is_waited_for_and_so_is_one_where_the_last_is_too_old(machine, readings):
    machine.free.clear()
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(readings.get, LONG, 0.01)
        assert machine.inside.acquire(timeout=LONG)
        assert not asked.done()
        machine.free.set()
        assert asked.result(LONG) == 0
        machine.inside = threading.Semaphore(0)
        machine.value, _ = 1, machine.free.clear()
        asked = pool.submit(readings.get, 0, 0.01, 0.0)
        assert machine.inside.acquire(timeout=LONG)
        assert not asked.done()
        machine.free.set()
        assert asked.result(LONG) == 1


def test_a_change_is_seen_though_a_reading_from_before_it_is_under_way(machine, readings):
    machine.free.clear()
    before = readings.ask(LONG)
    assert machine.inside.acquire(timeout=LONG)
    machine.value = 1
    after = readings.ask(0)
    readings.forget()
    later = readings.ask(LONG)
    machine.free.set()
    assert (before.result(LONG), after.result(LONG), later.result(LONG)) == (0, 1, 1)
    assert (machine.reads, machine.most) == (2, 1)


def test_a_reading_that_fails_is_told_to_those_who_waited_and_kept_by_none(machine, readings):
    assert readings.get(LONG, LONG) == 0
    machine.error = OSError("away")
    with pytest.raises(OSError, match="away"):
        readings.renew()
    assert readings.get(LONG) == 0
    readings.forget()
    with pytest.raises(OSError, match="away"):
        readings.get(LONG, LONG)
    machine.error = None
    assert readings.get(0, LONG) == 0


def test_who_gives_up_takes_it_from_none_of_the_others(machine, readings):
    machine.free.clear()
    asked = readings.ask(LONG)
    assert not asked.cancel()
    machine.free.set()
    try:
        assert readings.ask(LONG).result(LONG) == 0
    except CancelledError:
        pytest.fail("the reading of all was cancelled by one")


def test_its_age_is_that_of_its_beginning(machine, readings):
    assert readings.age == float("inf")
    machine.free.clear()
    asked = readings.ask(LONG)
    assert machine.inside.acquire(timeout=LONG)
    began = time.monotonic()
    machine.free.set()
    asked.result(LONG)
    assert readings.age >= time.monotonic() - began - 0.01
