"""Whether new sessions start while a maintenance of the whole site is near or under way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from . import messages
from .errors import Refusal, StoreError
from .idle.sentences import clock
from .store import Store

ALL_DEVICES = "*"


def closed(found: Iterable[Mapping[str, Any]], now: datetime, lead: float) -> Refusal | None:
    """The refusal of a start at ``now``, or None. Pure; ``found`` are rows of `Store.maintenance`.

    Sessions end at the maintenance's time, and everybody is warned ``lead`` seconds before an end; so a
    session that could not be warned in time does not start.
    """
    for row in found:
        if row["uuid"] != ALL_DEVICES or (row["until"] is not None and row["until"] <= now):
            continue
        if now >= row["starts_at"] - timedelta(seconds=lead):
            until = clock(row["until"], now) if row["until"] else ""
            return messages.maintenance(until, row["reason"])
    return None


class Maintenance:
    """Reads what was announced; while the store is down the last known answer stands. Blocking."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._known: list[dict[str, Any]] = []

    def refusal(self, now: datetime, lead: float) -> Refusal | None:
        """Why nothing starts at ``now``, or None."""
        with suppress(StoreError):
            self._known = self._store().maintenance(now)
        return closed(self._known, now, lead)
