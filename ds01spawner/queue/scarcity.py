"""Which devices a ticket leaves to those who can use nothing else. Pure.

Who can use anything leaves the large device to those who can use nothing else, where these would otherwise
come to wait longer than its own kind. The time waited alone shows that too late: when several who need the
one large device come together, each has waited little, yet the last will wait for all sessions before it.
So the longest wait to come is compared, as an expectation for who gives way, and with a margin for chance
for those who have no choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Protocol

from .estimate import gamma
from .ticket import Rules, Ticket

_SURE = 1.6448536
"""Nineteen of twenty: the margin for chance, as a quantile of the normal distribution."""


class Devices(Protocol):
    """What is asked of the pool; see `order.Pool`."""

    def find(self, ticket: Ticket, withheld: frozenset[str]) -> tuple[str, ...] | None: ...

    def eligible(self, ticket: Ticket) -> frozenset[str]: ...


def weight(ticket: Ticket, now: datetime, rules: Rules) -> timedelta:
    """The time waited, and what the priority is worth in waiting."""
    return (now - ticket.arrived) + ticket.priority * rules.ageing


class ScarcityGuard:
    """The tickets of one pass whose turn is yet to come, by the devices they could use."""

    def __init__(
        self,
        line: Sequence[Ticket],
        pool: Devices,
        now: datetime,
        rules: Rules,
        aside: Callable[[Ticket], bool] = lambda ticket: False,
    ) -> None:
        """``aside``: whether a ticket could not start now whatever were free; nothing is left to it."""
        self._pool, self._now, self._rules, self._aside = pool, now, rules, aside
        self._left: dict[frozenset[str], dict[str, Ticket]] = defaultdict(dict)
        self._on = rules.order == "fair" and rules.backfill == "reserve" and len(line) > 1
        if self._on:
            for ticket in line:
                self._left[pool.eligible(ticket)][ticket.id] = ticket

    def passed(self, ticket: Ticket) -> None:
        """It is this ticket's turn: it is not further back any more."""
        if self._on:
            self._left[self._pool.eligible(ticket)].pop(ticket.id, None)

    def kept_from(self, ticket: Ticket) -> frozenset[str]:
        """What this ticket leaves to others."""
        if not self._on:
            return frozenset()
        mine = self._pool.eligible(ticket)
        narrower = [e for e, left in self._left.items() if left and e and e < mine]
        if not narrower:
            return frozenset()
        alike = [ticket, *self._confined(mine)]
        worst = self._longest(alike, len(mine), float)
        return frozenset().union(*(e for e in narrower if self._leaves(ticket, worst, e)))

    def _leaves(self, ticket: Ticket, worst: float, devices: frozenset[str]) -> bool:
        """Whether those who can use only ``devices`` need them more, and would take them now."""
        them = [t for t in self._confined(devices) if not self._aside(t)]
        first = next((t for t in self._left[devices].values() if not self._aside(t)), None)
        if first is None or self._pool.find(first, frozenset()) is None:
            return False
        oldest = max(self._weight(t) for t in them)
        if self._weight(ticket) - oldest > self._rules.yields / _HOUR:
            return False  # so much longer nobody stands back, or it might be for ever
        return self._longest(them, len(devices), _surely_one_more) > worst

    def _confined(self, devices: frozenset[str]) -> list[Ticket]:
        """Those who can use nothing but (some of) these."""
        return [t for e, left in self._left.items() if e and e <= devices for t in left.values()]

    def _longest(self, tickets: Iterable[Ticket], devices: int, ends: Callable[[int], float]) -> float:
        """The longest wait, in hours, that one of them will have had when it starts."""
        weights = sorted((self._weight(t) for t in tickets for _ in range(t.request.count)), reverse=True)
        one = self._rules.usual / _HOUR / devices
        return max(w + one * ends(n) for n, w in enumerate(weights, 1))

    def _weight(self, ticket: Ticket) -> float:
        return weight(ticket, self._now, self._rules) / _HOUR


_HOUR = timedelta(hours=1)


@lru_cache(1024)
def _surely_one_more(nth: int) -> float:
    """Usual lengths until the n-th has started, were the device at hand lost to somebody else."""
    return gamma(nth + 1, _SURE)
