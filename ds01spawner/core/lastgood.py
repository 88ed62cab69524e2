"""A reading that many share, renewed in a thread of its own: whoever asks waits a moment for it, not longer.

What is read may take long for reasons that are none of the asker's (a container that the engine is saving, a
busy disk). So the last good reading is given meanwhile; its owner says how old it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
WAIT_S = 0.3
"""Seconds that somebody who only looks waits for a newer reading than the last good one."""


@dataclass
class _Run(Generic[T]):
    began: float
    done: Future[T] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # Many wait for it, so none of them may cancel it.
        self.done.set_running_or_notify_cancel()


class LastGood(Generic[T]):
    """See the module. Thread-safe; at most one thread reads, however many ask."""

    def __init__(self, read: Callable[[], T], name: str) -> None:
        self._read, self._name = read, name
        self._lock = threading.Lock()
        self._last: T | None = None
        self._at = float("-inf")
        """When the last good reading began."""
        self._changed = float("-inf")
        self._running: _Run[T] | None = None
        self._next: _Run[T] | None = None

    @property
    def last(self) -> T | None:
        """The last good reading."""
        return self._last

    @property
    def age(self) -> float:
        """Seconds since the last good reading began; infinite before the first."""
        return time.monotonic() - self._at

    def forget(self) -> None:
        """What is read has changed: the next who asks has it read anew."""
        with self._lock:
            self._changed = time.monotonic()

    def ask(self, max_age: float) -> Future[T]:
        """A reading at most ``max_age`` seconds old: the last one, or one under way, or to come."""
        with self._lock:
            now = time.monotonic()
            not_before = max(now - max_age, self._changed)
            if self._at >= not_before and self._last is not None:
                given: Future[T] = Future()
                given.set_result(self._last)
                return given
            if self._running is None:
                self._running = self._begin(_Run(now))
            if self._running.began >= not_before:
                return self._running.done
            # It began before what the asker has to see; the thread reads once more when it has ended.
            self._next = self._next or _Run(now)
            return self._next.done

    def get(self, max_age: float, wait: float = WAIT_S, oldest: float = float("inf")) -> T:
        """A reading as `ask` gives it, within ``wait`` seconds; else the last good one.

        One older than ``oldest`` seconds is not given: then the new one is waited for.
        """
        asked = self.ask(max_age)
        with suppress(FutureTimeout):
            return asked.result(wait)
        last = self._last
        return last if last is not None and self.age <= oldest else asked.result()

    def renew(self) -> T:
        """A reading that begins after this call. For whoever changed something, or decides by it."""
        return self.ask(0).result()

    def _begin(self, run: _Run[T]) -> _Run[T]:
        threading.Thread(target=self._work, args=(run,), name=self._name, daemon=True).start()
        return run

    def _work(self, run: _Run[T] | None) -> None:
        while run is not None:
            run.began = time.monotonic()
            found, problem = None, None
            try:
                found = self._read()
            except BaseException as error:
                problem = error
            with self._lock:
                if problem is None:
                    self._last, self._at = found, run.began
                following, self._next = self._next, None
                self._running = following
            if problem is None:
                run.done.set_result(found)  # type: ignore[arg-type]
            else:
                run.done.set_exception(problem)
            run = following
