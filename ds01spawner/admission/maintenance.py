"""Whether new sessions start while a maintenance, of the whole site or of a device, is near or under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from .. import messages
from ..core.errors import Refusal, StoreError
from ..core.text import clock
from ..placement.devices import Block
from ..policy.load import Policy
from ..store import Store
from ..store.rows import BlockRow

ALL_DEVICES = "*"
LEAD = "idle.lifetime_lead"


def closed(found: Iterable[BlockRow], now: datetime, lead: float) -> Refusal | None:
    """The refusal of a start at ``now``, or None. Pure; ``found`` are rows of `Blocks.maintenance`.

    Sessions end at the maintenance's time, and everybody is warned ``lead`` seconds before an end; so a
    session that could not be warned in time does not start.
    """
    for row in found:
        if row.uuid != ALL_DEVICES or (row.until is not None and row.until <= now):
            continue
        if now >= row.starts_at - timedelta(seconds=lead):
            until = clock(row.until, now) if row.until else ""
            return messages.maintenance(until, row.reason)
    return None


def ahead(found: Iterable[BlockRow], now: datetime, lead: float) -> dict[str, Block]:
    """Devices and cards that are kept from new sessions because their maintenance is near. Pure.

    ``lead`` as above, in seconds. One of the whole site closes the site instead (`closed`), and one that has
    begun is among the store's own blocks.
    """
    near = {}
    for row in found:
        start = row.starts_at
        if row.uuid != ALL_DEVICES and now < start <= now + timedelta(seconds=lead):
            why = f"maintenance from {clock(start, now)}, too near to warn a new session in time"
            until = row.until.isoformat() if row.until else ""
            near[row.uuid] = Block("drained", f"{why}: {row.reason}", until)
    return near


def longest_lead(policy: Policy) -> float:
    """The longest time ahead, in seconds, that the policy lets anybody be warned of an end. Pure."""
    layers = [policy.builtin, policy.defaults, *(g.layer for g in policy.groups)]
    layers += [o.layer for o in policy.users.values()]
    return max(float(layer[LEAD].value) for layer in layers if LEAD in layer)


class Maintenance:
    """Reads what was announced; while the store is down the last known answer stands. Blocking."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._known: list[BlockRow] = []

    def refusal(self, now: datetime, lead: float) -> Refusal | None:
        """Why nothing starts at ``now``, or None."""
        return closed(self._read(now), now, lead)

    def ahead(self, now: datetime, lead: float) -> dict[str, Block]:
        """What is kept from new sessions because its own maintenance is near."""
        return ahead(self._read(now), now, lead)

    def _read(self, now: datetime) -> list[BlockRow]:
        with suppress(StoreError):
            self._known = self._store().blocks.maintenance(now)
        return self._known
