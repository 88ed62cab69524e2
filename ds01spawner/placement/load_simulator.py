"""What a placement strategy costs: refusals and fragmentation under random load. Pure and repeatable.

Sessions arrive at random and last an exponential time. Each needs some memory and takes one device for
itself, chosen by the very strategy functions that `place` uses; nobody waits. Load is the mean number
of sessions that would run if none were refused, as a share of the number of devices.

A refusal is *avoidable* when moving running sessions between devices would have let it in: that is the
price of fragmentation. The offline bound is the share of arrivals that not even somebody who knows the
future and may move sessions at will could have served.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import fmean

from .devices import Card, Device, Inventory
from .standing import stable_order
from .strategies import Key

GIB = 1024
ARRIVALS, SEEDS, LOAD = 20_000, 5, 0.45
BIG_MIB = 40 * GIB
"""From this memory on a request counts as big."""

MIX: tuple[tuple[int, float], ...] = ((10 * GIB, 0.62), (20 * GIB, 0.20), (40 * GIB, 0.13), (80 * GIB, 0.05))
"""Memory asked for in MiB, and the share of arrivals that ask for it."""

_SLICES = {10: 1, 20: 2, 40: 3, 80: 7}
LAYOUT_GIB = ((80,), (40, 20, 10, 10), (10,) * 7, (40, 40))
"""Four 80 GB cards as a site might cut them: fourteen devices."""


@dataclass(frozen=True)
class Outcome:
    """What one strategy did. The first three are shares: of arrivals, and of big arrivals."""

    refused: float
    avoidable: float
    big_refused: float
    wasted_gib: float
    """Memory of a device beyond what its session asked for, mean over the sessions that run, in GiB."""
    idle_cards: float
    """Cards on which nothing ran, mean over time."""


@dataclass(frozen=True)
class Arrival:
    """One session that wants to start: when, for how long, and how much memory it needs."""

    at: float
    end: float
    need_mib: int


def reference_layout() -> Inventory:
    """The fourteen devices of `LAYOUT_GIB`."""
    cards, devices = [], []
    for n, sizes in enumerate(LAYOUT_GIB):
        card, name = f"GPU-{n}", "80 GB card"
        cards.append(Card(card, name, 80 * GIB, len(sizes) > 1, index=n))
        for position, gib in enumerate(sizes):
            whole = gib == 80
            profile = "full" if whole else f"{_SLICES[gib]}g.{gib}gb"
            uuid = card if whole else f"MIG-{n}-{position}"
            parent = None if whole else card
            devices.append(Device(uuid, name, profile, gib * GIB, _SLICES[gib], parent, position))
    return Inventory("simulated", tuple(devices), tuple(cards))


def arrivals(
    devices: int, load: float, seed: int, count: int = ARRIVALS, mix: Sequence[tuple[int, float]] = MIX
) -> list[Arrival]:
    """``count`` arrivals for a machine of so many devices; the same seed gives the same ones."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, not a secret
    needs = chance.choices([n for n, _ in mix], [w for _, w in mix], k=count)
    found, now = [], 0.0
    for need in needs:
        now += chance.expovariate(load * devices)
        found.append(Arrival(now, now + chance.expovariate(1.0), need))
    return found


class Machine:
    """Devices with who is on them, and one strategy. Slices of a card must not overlap the card."""

    def __init__(self, inventory: Inventory, key: Key) -> None:
        self.devices = stable_order(inventory)
        self._key = key
        cards = list(dict.fromkeys(d.card for d in self.devices))
        self._card = [cards.index(d.card) for d in self.devices]
        self.used = [0] * len(cards)
        self.free = set(range(len(self.devices)))
        sizes = {d.memory_mib for d in self.devices}
        self._sufficient = {
            size: frozenset(n for n, d in enumerate(self.devices) if d.memory_mib >= size) for size in sizes
        }

    def choose(self, need_mib: int) -> int | None:
        """Position of the device a request gets, or None."""
        key, devices, used, card = self._key, self.devices, self.used, self._card
        candidates = self.free & self.sufficient(need_mib)
        if not candidates:
            return None
        return min(candidates, key=lambda n: key(devices[n], used[card[n]], n))

    def sufficient(self, need_mib: int) -> frozenset[int]:
        """Positions of the devices with at least so much memory."""
        if need_mib not in self._sufficient:
            fitting = (n for n, d in enumerate(self.devices) if d.memory_mib >= need_mib)
            self._sufficient[need_mib] = frozenset(fitting)
        return self._sufficient[need_mib]

    def take(self, position: int) -> None:
        """Put a session on a device."""
        self.free.remove(position)
        self.used[self._card[position]] += self.devices[position].compute_slices

    def release(self, position: int) -> None:
        """End the session on a device."""
        self.free.add(position)
        self.used[self._card[position]] -= self.devices[position].compute_slices


class _Run:
    """One strategy over one list of arrivals, with its counters."""

    def __init__(self, inventory: Inventory, key: Key, mix: Iterable[int]) -> None:
        self.machine = Machine(inventory, key)
        self.ends: list[tuple[float, int, int]] = []
        self.capacity = {need: len(self.machine.sufficient(need)) for need in sorted(mix)}
        self.running = dict.fromkeys(self.capacity, 0)
        self.now = self.wasted = self.idle = self.sessions = 0.0
        self.wasted_now = 0
        self.refused = self.avoidable = self.big = self.big_refused = 0

    def until(self, now: float) -> None:
        while self.ends and self.ends[0][0] <= now:
            end, position, need = self.ends[0]
            self._pass(end)
            heapq.heappop(self.ends)
            self.machine.release(position)
            self.running[need] -= 1
            self.wasted_now -= self.machine.devices[position].memory_mib - need
        self._pass(now)

    def _pass(self, now: float) -> None:
        self.wasted += (now - self.now) * self.wasted_now
        self.sessions += (now - self.now) * len(self.ends)
        self.idle += (now - self.now) * self.machine.used.count(0)
        self.now = now

    def arrive(self, arrival: Arrival) -> None:
        need, big = arrival.need_mib, arrival.need_mib >= BIG_MIB
        self.big += big
        position = self.machine.choose(need)
        if position is None:
            self.refused += 1
            self.big_refused += big
            self.avoidable += self._could_be_moved_in(need)
            return
        self.machine.take(position)
        self.running[need] += 1
        self.wasted_now += self.machine.devices[position].memory_mib - need
        heapq.heappush(self.ends, (arrival.end, position, need))

    def _could_be_moved_in(self, need: int) -> bool:
        """Whether all running sessions and one more fit at once: for every size, enough devices."""
        wanted = 0
        for size in sorted(self.capacity, reverse=True):
            wanted += self.running[size] + (size == need)
            if wanted > self.capacity[size]:
                return False
        return True


def simulate(inventory: Inventory, key: Key, wanted: Sequence[Arrival]) -> Outcome:
    """Run one strategy over the arrivals."""
    run = _Run(inventory, key, {a.need_mib for a in wanted})
    for arrival in wanted:
        run.until(arrival.at)
        run.arrive(arrival)
    return Outcome(
        refused=run.refused / len(wanted),
        avoidable=run.avoidable / len(wanted),
        big_refused=run.big_refused / max(1, run.big),
        wasted_gib=run.wasted / max(run.sessions, 1e-9) / GIB,
        idle_cards=run.idle / run.now,
    )


def offline_bound(inventory: Inventory, wanted: Sequence[Arrival]) -> float:
    """A share of refusals that no strategy can stay under, even knowing the future.

    For each size, only the requests of at least that size and the devices that fit them are looked at;
    with one kind of device, dropping the session that ends last whenever one is too many is optimal.
    Each size alone is a relaxation, so the largest of these numbers bounds all strategies.
    """
    worst = 0
    for size in {a.need_mib for a in wanted}:
        capacity = sum(d.memory_mib >= size for d in inventory.devices)
        worst = max(worst, _least_drops([a for a in wanted if a.need_mib >= size], capacity))
    return worst / len(wanted)


def mean(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean of each number over several runs."""
    return Outcome(**{f.name: fmean(getattr(o, f.name) for o in outcomes) for f in fields(Outcome)})


def _least_drops(wanted: Sequence[Arrival], capacity: int) -> int:
    ends: list[float] = []
    drops = 0
    for arrival in wanted:
        del ends[: bisect_right(ends, arrival.at)]
        insort(ends, arrival.end)
        if len(ends) > capacity:
            ends.pop()
            drops += 1
    return drops
