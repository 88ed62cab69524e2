"""How far this process's event loop is behind, so that our own lag is not taken for another's failure.

A wait on the loop measures two things: how long the other took, and how late the loop came to look. With a
loop a second behind, everything that may take a second fails, however fast the other is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, Histogram

T = TypeVar("T")
INTERVAL_S = 0.25
IGNORED_S = 0.05
"""Less is the grain of timers and of a busy machine, and nobody fails of it."""
MOST_TRIES = 3
BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SECONDS = Histogram(
    "ds01_event_loop_lag_seconds",
    "How late the event loop of this process comes to what is due, looked at four times a second",
    buckets=BUCKETS,
    registry=None,
)


class Lag:
    """Measures one loop."""

    def __init__(self, interval: float = INTERVAL_S) -> None:
        self._interval = interval
        self._behind = 0.0
        self._due: float | None = None

    @property
    def behind(self) -> float:
        """Seconds that the loop was late so far, all added up; it only grows. May be asked from a thread."""
        late = 0.0 if self._due is None else time.monotonic() - self._due
        return self._behind + (late if late > IGNORED_S else 0.0)

    def measure(self, loop: asyncio.AbstractEventLoop) -> None:
        """Measure a loop for as long as it runs. Call it on the loop."""
        if self._due is not None:
            late = max(0.0, time.monotonic() - self._due)
            SECONDS.observe(late)
            if late > IGNORED_S:
                self._behind += late
        self._due = time.monotonic() + self._interval
        loop.call_later(self._interval, self.measure, loop)


_measured: WeakKeyDictionary[asyncio.AbstractEventLoop, Lag] = WeakKeyDictionary()


def watch() -> Lag:
    """The lag of the running loop, measured from the first call on. Call it on the loop."""
    loop = asyncio.get_running_loop()
    if loop not in _measured:
        _measured[loop] = Lag()
        _measured[loop].measure(loop)
    return _measured[loop]


async def unhurried(ask: Callable[[float], Awaitable[T]], timeout: float, *failures: type[Exception]) -> T:
    """``ask(timeout)``, again and with more time where it failed while this very loop was late.

    Only for questions that may be repeated. ``failures`` are what a lack of time looks like.
    """
    lag = watch()
    for left in range(MOST_TRIES - 1, -1, -1):
        before = lag.behind
        try:
            return await ask(timeout)
        except failures:
            late = lag.behind - before
            if not left or late < timeout / 10:
                raise
            timeout += late
    raise AssertionError("the last try returns or raises")


async def within(work: Awaitable[T], seconds: float) -> T:
    """`asyncio.wait_for`, but what this very loop was late meanwhile does not count."""
    task, lag = asyncio.ensure_future(work), watch()
    began, late = time.monotonic(), lag.behind
    try:
        while True:
            left = began + seconds + lag.behind - late - time.monotonic()
            if left <= 0 and not task.done():
                raise asyncio.TimeoutError
            done, _ = await asyncio.wait([task], timeout=max(0.0, left))
            if done:
                return task.result()
    finally:
        if not task.done():
            task.cancel()


def publish() -> None:
    """Let the process's own metrics tell the lag. Idempotent."""
    with contextlib.suppress(ValueError):  # it does already
        REGISTRY.register(SECONDS)
