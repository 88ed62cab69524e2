"""Threads in which work about one session keeps its order, and work about others is never behind it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class KeyedExecutor:
    """Thread pools in which work with the same key never overlaps and keeps its order."""

    def __init__(self, **pools: int) -> None:
        self._pools = {
            name: ThreadPoolExecutor(size, thread_name_prefix=f"ds01-{name}") for name, size in pools.items()
        }
        self._queues: dict[str, deque[Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def submit(self, pool: str, key: str | None, work: Callable[[], T]) -> Future[T]:
        """Run ``work`` in a pool; after all earlier work of the same key when ``key`` is given."""
        if key is None:
            return self._pools[pool].submit(work)
        future: Future[T] = Future()

        def dispatch() -> None:
            self._pools[pool].submit(self._run, key, work, future)

        with self._lock:
            waiting = self._queues.get(key)
            if waiting is not None:
                waiting.append(dispatch)
                return future
            self._queues[key] = deque()
        dispatch()
        return future

    def _run(self, key: str, work: Callable[[], T], future: Future[T]) -> None:
        try:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
        finally:
            with self._lock:
                following = self._queues[key].popleft() if self._queues[key] else None
                if following is None:
                    del self._queues[key]
            if following:
                following()
