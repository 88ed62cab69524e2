"""The queue's rules on invented people, to see what they do before anybody waits. Pure.

One machine of 14 devices (a whole card, and cards cut in 2, 4 and 7), sessions of exponential length,
people who ask for at least 10, 20, 40 or 80 GB. Every rule sees the same arrivals, and decides by the
very function that the service uses.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from math import exp, log
from random import Random
from typing import Any

from ..placement.devices import GpuRequest
from .estimate import Calibration, Lengths, estimate
from .order import decide
from .ticket import Rules, Target, Ticket, Usage

MEAN_HOURS = 4.0
SEEDS = (1, 2, 3, 4, 5)
ARRIVALS = 20_000
LOAD, LOADS = 0.55, (0.55, 0.65, 0.75, 0.85, 0.95)
PEOPLE = 40
HALF_LIFE_HOURS = 7 * 24.0
STARVED = 50.0
"""Mean session lengths after which a wait counts as starvation."""
DEVICES: tuple[tuple[int, int], ...] = ((10, 1),) * 9 + ((20, 2),) + ((40, 3),) * 3 + ((80, 7),)
"""Memory in GB and compute slices of each device, smallest first."""
CLASSES: tuple[tuple[int, float], ...] = ((10, 0.62), (20, 0.20), (40, 0.13), (80, 0.05))
"""At least so many GB are asked for, with this probability."""
RULES: dict[str, Rules] = {
    "ds01": Rules(),
    "fifo": Rules(order="fifo", backfill="none"),
    "multifactor": Rules(order="multifactor", backfill="reserve"),
    "shortest-first": Rules(order="shortest", backfill="greedy"),
}
GIVE_UP = 400
"""So many waiting mean that the rule does not keep up at this load; the run ends there."""
TOLD_AFTER = 50
"""Waits between two corrections of the estimates."""
_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Arrival:
    """Somebody who wants a device."""

    at: float
    """Hours since the begin."""
    user: int
    size: int
    hours: float


@dataclass
class Outcome:
    """What one run of one rule came to."""

    waits: dict[int, list[float]] = field(default_factory=dict)
    """Waits in mean session lengths, by class."""
    gpu_hours: list[float] = field(default_factory=list)
    told: list[tuple[float, float]] = field(default_factory=list)
    """Shown p90 and actual wait, in hours."""
    unserved: int = 0
    overloaded: bool = False


def arrivals(seed: int, load: float, count: int = ARRIVALS, people: int = PEOPLE) -> list[Arrival]:
    """Poisson arrivals that keep ``load`` of the devices busy on average, were nobody to wait."""
    random = Random(seed)  # noqa: S311 - a simulation, not a secret
    rate = load * len(DEVICES) / MEAN_HOURS
    sizes, weights = zip(*CLASSES, strict=True)
    now, made = 0.0, []
    for _ in range(count):
        now += random.expovariate(rate)
        size = random.choices(sizes, weights)[0]
        made.append(Arrival(now, random.randrange(people), size, random.expovariate(1 / MEAN_HOURS)))
    return made


def least_longest(coming: Iterable[Arrival]) -> float:
    """What the longest wait comes to, in mean session lengths, by the least anybody could hope for.

    Those who need a size or more have the devices that fit it to themselves, each takes the one that comes
    free first, in order of arrival. A rule that shares the machine with others, and does not know how long a
    session will last, cannot count on less.
    """
    everybody, worst = list(coming), 0.0
    for size, _ in CLASSES:
        ends = [0.0] * sum(memory >= size for memory, _ in DEVICES)
        for arrival in everybody:
            if arrival.size >= size:
                start = max(arrival.at, heapq.heappop(ends))
                heapq.heappush(ends, start + arrival.hours)
                worst = max(worst, (start - arrival.at) / MEAN_HOURS)
    return worst


class FleetPool:
    """`DEVICES` as a pool: what `PlacementPool` answers for them, without building its objects."""

    def __init__(self) -> None:
        self.names = tuple(f"d{i}" for i in range(len(DEVICES)))
        self.since: dict[str, float] = {}
        self.now = 0.0
        self._fit = {
            size: tuple(n for n, (memory, _) in zip(self.names, DEVICES, strict=True) if memory >= size)
            for size, _ in CLASSES
        }
        self._sets = {size: frozenset(names) for size, names in self._fit.items()}

    def key(self, ticket: Ticket) -> Hashable:
        """See `Pool.key`."""
        return ticket.request.min_memory_mib

    def find(self, ticket: Ticket, withheld: frozenset[str]) -> tuple[str, ...] | None:
        """The smallest sufficient free device."""
        for name in self._fit[ticket.request.min_memory_mib]:
            if name not in self.since and name not in withheld:
                return (name,)
        return None

    def take(self, ticket: Ticket, devices: tuple[str, ...]) -> None:
        """See `Pool.take`."""
        self.since[devices[0]] = self.now

    def target(self, ticket: Ticket, withheld: frozenset[str]) -> Target | None:
        """The smallest sufficient device: with lengths that have no memory all are expected to end alike."""
        for name in self._fit[ticket.request.min_memory_mib]:
            if name not in withheld:
                return Target((name,), _START + timedelta(hours=self.now + MEAN_HOURS))
        return None

    def eligible(self, ticket: Ticket) -> frozenset[str]:
        """See `Pool.eligible`."""
        return self._sets[ticket.request.min_memory_mib]

    def why(self, ticket: Ticket) -> str:
        """See `Pool.why`."""
        return "all of them are in use"


class _Shares(Mapping[str, float]):
    """Decayed GPU-hours of each person, exact at the time asked, running sessions included."""

    def __init__(self) -> None:
        self.now = 0.0
        self._state: dict[str, tuple[float, float, float]] = {}

    def change(self, user: str, rate: float) -> None:
        """From now on ``rate`` more GPUs (or fewer)."""
        value, _, old = self._at(user)
        self._state[user] = (value, self.now, old + rate)

    def _at(self, user: str) -> tuple[float, float, float]:
        value, since, rate = self._state.get(user, (0.0, self.now, 0.0))
        k = log(2) / HALF_LIFE_HOURS
        decay = exp(-k * (self.now - since))
        return value * decay + rate / k * (1 - decay), since, rate

    def __getitem__(self, user: str) -> float:
        return self._at(user)[0]

    def __iter__(self) -> Any:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


class _Told:
    """Estimates as people are told them, and what experience says of them."""

    def __init__(self) -> None:
        self.lengths = Lengths(())
        self._ended: deque[float] = deque(maxlen=1000)
        self._past: dict[int, deque[tuple[float, float, float]]] = {
            size: deque(maxlen=300) for size, _ in CLASSES
        }
        self._learned: dict[int, Calibration] = {}
        self._open: dict[str, tuple[int, float, float]] = {}
        self._changes = 0

    def tell(self, ticket: Ticket, line: list[Ticket], pool: FleetPool, now: float) -> None:
        mine = pool.eligible(ticket)
        ahead = sum(1 for t in line[: line.index(ticket)] if pool.eligible(t) & mine)
        remaining = [self.lengths.remaining(now - pool.since[d]) for d in mine if d in pool.since]
        size = ticket.request.min_memory_mib
        learned = self._learned.get(size, Calibration())
        told = estimate(remaining, ahead + 1, learned)
        if told is not None:
            self._open[ticket.id] = (size, told.model90.total_seconds(), told.p90.total_seconds())

    def started(self, ticket: str, waited: float, outcome: Outcome) -> None:
        if ticket in self._open:
            size, model90, p90 = self._open.pop(ticket)
            outcome.told.append((p90 / 3600, waited))
            self._past[size].append((model90, model90, waited * 3600))
            self._changes += 1
            if self._changes % TOLD_AFTER == 0:
                self._learned = {s: Calibration.learn(past) for s, past in self._past.items()}

    def ended(self, hours: float) -> None:
        self._ended.append(hours)
        if len(self._ended) % TOLD_AFTER == 0 and len(self.lengths) < 1000:
            self.lengths = Lengths(self._ended)


def simulate(coming: Iterable[Arrival], rules: Rules) -> Outcome:
    """Serve everybody by ``rules``, until the last has started."""
    run = _Run(rules)
    everybody = list(coming)
    for number, arrival in enumerate(everybody):
        if len(run.waiting) > GIVE_UP:
            run.outcome.overloaded = True
            run.outcome.unserved = len(everybody) - number
            break
        while run.ends and run.ends[0][0] <= arrival.at:
            run.end_next()
        run.arrive(arrival)
    while run.ends:
        run.end_next()
    run.outcome.unserved += len(run.waiting)
    return run.outcome


class _Run:
    def __init__(self, rules: Rules) -> None:
        self.rules, self.pool, self.shares, self.told = rules, FleetPool(), _Shares(), _Told()
        self.usage = Usage(users=self.shares)
        self.waiting: dict[str, Ticket] = {}
        self.wanted: dict[str, Arrival] = {}
        self.ends: list[tuple[float, str, str, int]] = []
        self.outcome = Outcome({size: [] for size, _ in CLASSES}, [0.0] * PEOPLE)
        self._compute = dict(zip(self.pool.names, (c / 7 for _, c in DEVICES), strict=True))
        self._number = 0

    def arrive(self, arrival: Arrival) -> None:
        self._number += 1
        knows = timedelta(hours=arrival.hours) if self.rules.order == "shortest" else None
        ticket = Ticket(
            id=f"{self._number:08d}",
            user=str(arrival.user),
            arrived=_START + timedelta(hours=arrival.at),
            request=GpuRequest("auto", min_memory_mib=arrival.size),
            length=knows,
        )
        self.waiting[ticket.id], self.wanted[ticket.id] = ticket, arrival
        self.serve(arrival.at, ticket)

    def end_next(self) -> None:
        at, device, user, person = heapq.heappop(self.ends)
        hours = at - self.pool.since.pop(device)
        self.shares.now = at
        self.shares.change(user, -self._compute[device])
        self.outcome.gpu_hours[person] += hours * self._compute[device]
        self.told.ended(hours)
        if self.waiting:
            self.serve(at)

    def serve(self, at: float, new: Ticket | None = None) -> None:
        self.pool.now = self.shares.now = at
        now = _START + timedelta(hours=at)
        decision = decide(self.waiting.values(), self.pool, self.usage, now, self.rules)
        for grant in decision.grants:
            arrival = self.wanted.pop(grant.ticket.id)
            del self.waiting[grant.ticket.id]
            device = grant.devices[0]
            self.shares.change(grant.ticket.user, self._compute[device])
            heapq.heappush(self.ends, (at + arrival.hours, device, grant.ticket.user, arrival.user))
            self.outcome.waits[arrival.size].append((at - arrival.at) / MEAN_HOURS)
            self.told.started(grant.ticket.id, at - arrival.at, self.outcome)
        if new is not None and new.id in self.waiting and self.rules.order == "fair":
            self.told.tell(new, decision.waiting, self.pool, at)


def quantile(values: Iterable[float], q: float) -> float:
    """The value below which ``q`` of them lie; 0 when there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def jain(values: Iterable[float]) -> float:
    """Jain's fairness: 1 when all have the same, 1/n when one has everything."""
    found = list(values)
    squares = sum(v * v for v in found)
    return sum(found) ** 2 / (len(found) * squares) if squares else 1.0
