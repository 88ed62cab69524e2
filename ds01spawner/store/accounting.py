"""Hours from intervals. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import log
from typing import TypeAlias

Interval: TypeAlias = tuple[datetime, datetime | None]
"""Begin and end of a session; None while it runs."""

HOUR = 3600.0


def overlap_hours(interval: Interval, since: datetime, now: datetime) -> float:
    """Hours of ``interval`` inside ``[since, now]``; a running session counts up to ``now``."""
    start, end = interval
    seconds = (min(end or now, now) - max(start, since)).total_seconds()
    return max(0.0, seconds) / HOUR


def decayed_hours(interval: Interval, now: datetime, half_life: timedelta) -> float:
    """Hours of ``interval`` weighed by age: an hour used one ``half_life`` ago counts half.

    The integral of ``2 ** (-(now - t) / half_life)`` over the interval, so that it does not matter how
    often it is asked or whether one session or ten short ones were used.
    """
    start, end = interval
    stop = min(end or now, now)
    if stop <= start:
        return 0.0
    life = half_life.total_seconds() / HOUR
    old = (now - start).total_seconds() / HOUR / life
    young = (now - stop).total_seconds() / HOUR / life
    return float((2.0**-young - 2.0**-old) * life / log(2))


def falls_below(
    uses: Sequence[tuple[Interval, float]], budget: float, window: timedelta, now: datetime
) -> datetime | None:
    """When the use of a moving ``window`` falls below ``budget`` GPU-hours if nothing more is used.

    ``uses`` are intervals with their GPU-equivalents. None where that never happens or nobody can tell:
    for a budget of nothing, and while a session runs.
    """
    if budget <= 0 or any(end is None for (_, end), weight in uses if weight > 0):
        return None
    spans = [((start + window), (end + window), w) for (start, end), w in uses if end is not None and w > 0]
    left = sum(w * max(0.0, (end - max(start, now)).total_seconds()) for start, end, w in spans) / HOUR
    at = now
    for mark in sorted({t for start, end, _ in spans for t in (start, end) if t > now}):
        if left < budget:
            return at
        rate = sum(w for start, end, w in spans if start <= at < end)
        spent = rate * (mark - at).total_seconds() / HOUR
        if left - spent < budget:
            return at + timedelta(hours=(left - budget) / rate, seconds=1)
        left, at = left - spent, mark
    return at
