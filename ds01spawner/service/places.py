"""How much of the service one person's requests may take at once: the others' find room beside them.

What waits for the engine, the hub or the store holds a thread, and all share the threads. Thirty requests of
one person, each of them harmless, would stand before everybody else's. So a person has a few places of each
kind and waits for the own ones; whoever has too many waiting is refused; and all together leave threads to
what the service does by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

THREADS = 96
ALL = 80
"""Requests that are worked on at once, of all people: fewer than there are threads."""
REFUSED_AFTER_S = 0.5
"""A refusal waits that long: at once, it would be asked for again at once on each of many connections, and
the event loop would have time for little else."""


class TooMany(Exception):
    """A person has more requests waiting than there may be."""


class Kind(Enum):
    """A kind of request: how many of one person are worked on at once, and how many there may be in all."""

    READ = (3, 12)
    """Pages and calls; a browser sends six at once."""
    CHANGE = (1, 12)
    FRAGMENT = (4, 32)
    """Live parts of open pages: several tabs that wake together."""

    def __init__(self, working: int, there: int) -> None:
        self.working, self.there = working, there


@dataclass
class _Own:
    free: asyncio.Semaphore
    there: int = field(default=0)


class Places:
    """Places by person; kept only while somebody uses or awaits them. For one event loop."""

    def __init__(self, everyone: int = ALL) -> None:
        self._places: dict[tuple[str, Kind], _Own] = {}
        self._all = asyncio.Semaphore(everyone)

    @asynccontextmanager
    async def of(self, person: str, kind: Kind) -> AsyncIterator[None]:
        """A place for one request, as soon as there is one; `TooMany` where too many are there already."""
        key = (person, kind)
        own = self._places.setdefault(key, _Own(asyncio.Semaphore(kind.working)))
        if own.there >= kind.there:
            raise TooMany
        own.there += 1
        try:
            async with own.free, self._all:
                yield
        finally:
            own.there -= 1
            if not own.there:
                del self._places[key]

    def __len__(self) -> int:
        """How many requests are there."""
        return sum(own.there for own in self._places.values())


def use_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Give what blocks its threads; the loop's own number follows the cores, and two cores have six."""
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="ds01-service"))
