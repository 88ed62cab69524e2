"""How many requests of one person are answered at once, so that none keeps the others waiting.

What waits for the engine, the hub or the store holds a thread. A person's share of the threads is bounded,
and there are more threads than a few such people can hold.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

PAGES = 12
"""Pages and calls of one person at once, also those that wait for their turn; a browser sends six."""
FRAGMENTS = 32
"""Live parts of one person's open pages at once: several tabs that wake together."""
THREADS = 96


class AtOnce:
    """Counts by person. Used on the event loop alone, so it needs no lock."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._now: Counter[str] = Counter()

    def enter(self, person: str) -> bool:
        """Take one in; False where that would be too many."""
        if self._now[person] >= self.most:
            return False
        self._now[person] += 1
        return True

    def leave(self, person: str) -> None:
        """One was answered."""
        self._now[person] -= 1
        if self._now[person] <= 0:
            del self._now[person]

    def __len__(self) -> int:
        """How many people are remembered: those with a request in progress."""
        return len(self._now)


def use_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Give what blocks its threads; the loop's own number follows the cores, and two cores have six."""
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="ds01-service"))
