"""How much of the service one person's requests may take at once: the others' find room beside them.

Work that blocks runs in a few threads that everybody shares. Thirty requests of one person, each of them
harmless, would stand before everybody else's; so each person has a few places, and waits for the own ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

READS, CHANGES = 3, 1
"""Requests of one person that are worked on at once; the shared pool has at least five threads."""
WAITING = 100
"""Requests of one person that may wait for that; more are refused."""


class TooMany(Exception):
    """A person has more requests waiting than there may be."""


@dataclass
class _Places:
    free: asyncio.Semaphore
    users: int = field(default=0)


class Turns:
    """Places by person; kept only while somebody uses or awaits them. For one event loop."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, bool], _Places] = {}

    @asynccontextmanager
    async def of(self, person: str, changes: bool) -> AsyncIterator[None]:
        """A place for one request, as soon as there is one; `TooMany` where too many wait already."""
        key = (person, changes)
        number = CHANGES if changes else READS
        places = self._places.setdefault(key, _Places(asyncio.Semaphore(number)))
        if places.users >= number + WAITING:
            raise TooMany
        places.users += 1
        try:
            async with places.free:
                yield
        finally:
            places.users -= 1
            if not places.users:
                del self._places[key]
