"""Who is next: the order of the line, and who may start out of it. Pure.

The line is ordered by priority (which grows with waiting, so that nobody starves), then by turn (a
person's second place comes after everybody's first), then by fair share of recent GPU-hours, then by
arrival. Whoever cannot start is given the devices it will start on; others pass only where that does
not delay it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log2
from typing import Any, Protocol

from .scarcity import ScarcityGuard, weight
from .ticket import Grant, Rules, Target, Ticket, Usage, Wait

Entitled = Callable[[Ticket, Sequence[Grant]], str]
"""Why a ticket may not start now by its owner's own limits (grants of this pass counted), or ``""``."""

_EVER = timedelta(days=36500)


class Pool(Protocol):
    """The devices as the queue sees them; `PlacementPool` is the real one."""

    def key(self, ticket: Ticket) -> Hashable:
        """Equal for tickets that can use exactly the same devices."""

    def find(self, ticket: Ticket, withheld: frozenset[str]) -> tuple[str, ...] | None:
        """Devices to start on now (``()`` for a ticket that needs none), or None."""

    def take(self, ticket: Ticket, devices: tuple[str, ...]) -> None:
        """Count ``devices`` as held from now on."""

    def target(self, ticket: Ticket, withheld: frozenset[str]) -> Target | None:
        """Where and when the ticket is expected to start, or None when that cannot be told."""

    def eligible(self, ticket: Ticket) -> frozenset[str]:
        """Every device the ticket could use, busy or not."""

    def why(self, ticket: Ticket) -> str:
        """Why nothing is found for it, for people."""


@dataclass
class Decision:
    """One pass over the line."""

    grants: list[Grant] = field(default_factory=list)
    waiting: list[Ticket] = field(default_factory=list)
    """Those who wait, in order."""
    limited: dict[str, str] = field(default_factory=dict)
    """Ticket id to the sentence about the owner's own limits."""
    targets: dict[Hashable, Target | None] = field(default_factory=dict)
    """For each class that cannot start: where its first ticket will."""
    first: dict[Hashable, str] = field(default_factory=dict)
    """For each class that cannot start: its first ticket."""
    guarded: frozenset[str] = frozenset()
    """Devices somebody waits for: starts that did not queue keep off them."""


def line_up(tickets: Iterable[Ticket], usage: Usage, now: datetime, rules: Rules) -> list[Ticket]:
    """The waiting tickets in the order they are served."""
    everyone = sorted(tickets, key=lambda t: (t.arrived, t.id))
    key = _ORDERS[rules.order](usage, now, rules)
    turns: dict[str, int] = defaultdict(int)
    for ticket in everyone:
        turns[ticket.user] += ticket.state != "waiting"
    keyed = []
    for ticket in everyone:
        if ticket.state == "waiting":
            keyed.append((*key(ticket, turns[ticket.user]), ticket.arrived, ticket.id, ticket))
            turns[ticket.user] += 1
    keyed.sort(key=lambda k: k[:-1])
    return [k[-1] for k in keyed]


def decide(
    tickets: Iterable[Ticket],
    pool: Pool,
    usage: Usage,
    now: datetime,
    rules: Rules,
    entitled: Entitled | None = None,
) -> Decision:
    """Grant what can be granted. The pool is changed: what is granted is taken from it."""
    decision = Decision()
    withheld: dict[str, datetime] = {}
    guarded: set[str] = set()
    closed = False
    line = line_up(tickets, usage, now, rules)
    limit = entitled or (lambda ticket, grants: "")
    guard = ScarcityGuard(line, pool, now, rules, lambda t: bool(limit(t, decision.grants)))
    for ticket in line:
        guard.passed(ticket)
        if why := limit(ticket, decision.grants):
            # Over one's own limits: keeps the place, stands in nobody's way.
            decision.limited[ticket.id] = why
            decision.waiting.append(ticket)
            continue
        key = pool.key(ticket)
        if not closed and (key not in decision.targets or _bounded(ticket, rules)):
            devices = pool.find(ticket, _kept_from(ticket, withheld, now) | guard.kept_from(ticket))
            if devices is not None:
                pool.take(ticket, devices)
                decision.grants.append(Grant(ticket, devices))
                continue
        decision.waiting.append(ticket)
        if key not in decision.targets:
            decision.first[key] = ticket.id
            target = pool.target(ticket, frozenset(withheld)) if rules.backfill == "reserve" else None
            decision.targets[key] = target
            guarded |= pool.eligible(ticket)
            if target is not None:
                withheld |= dict.fromkeys(target.devices, target.start)
        closed = closed or rules.backfill == "none"
    decision.guarded = frozenset(guarded)
    return decision


def aged(ticket: Ticket, now: datetime, rules: Rules) -> int:
    """The priority with what waiting adds to it."""
    return weight(ticket, now, rules) // rules.ageing


def hold_back(decision: Decision, pool: Pool, room: int, sentence: str) -> None:
    """Keep only the first ``room`` grants; the others head those who wait, their devices kept for them."""
    later = [g.ticket for g in decision.grants[max(0, room) :]]
    del decision.grants[max(0, room) :]
    decision.waiting[:0] = later
    decision.limited |= {t.id: sentence for t in later}
    decision.guarded |= frozenset().union(*(pool.eligible(t) for t in later))


def explain(decision: Decision, pool: Pool) -> list[Wait]:
    """Why each ticket waits and who is before it, in the order of the line."""
    waits: list[Wait] = []
    before: list[tuple[Ticket, frozenset[str]]] = []
    for position, ticket in enumerate(decision.waiting, 1):
        eligible = pool.eligible(ticket)
        ahead = Counter(t.kind for t, theirs in before if theirs & eligible)
        code, reason = _reason(decision, pool, ticket, eligible, sum(ahead.values()))
        waits.append(Wait(ticket, reason, code, position, tuple(sorted(ahead.items()))))
        if ticket.id not in decision.limited:
            before.append((ticket, eligible))
    return waits


def _reason(
    decision: Decision, pool: Pool, ticket: Ticket, eligible: frozenset[str], ahead: int
) -> tuple[Any, str]:
    if ticket.id in decision.limited:
        return "limit", decision.limited[ticket.id]
    if ticket.request.wants_gpu and not eligible:
        return "impossible", f"no device here can serve it now: {pool.why(ticket)}"
    if decision.first.get(pool.key(ticket)) != ticket.id:
        people = "1 place is" if ahead == 1 else f"{ahead} places are"
        return "behind", f"{people} before it for the same devices"
    why = pool.why(ticket)
    if not why:
        return "kept", "the free device is kept for somebody who waits longer and needs it whole"
    return "busy", why


def next_grants(
    tickets: Iterable[Ticket],
    pool: Pool,
    usage: Usage,
    now: datetime,
    rules: Rules,
    entitled: Entitled | None = None,
) -> list[Grant | Wait]:
    """The whole answer of one pass: a grant or an explained wait for every waiting ticket."""
    decision = decide(tickets, pool, usage, now, rules, entitled)
    return [*decision.grants, *explain(decision, pool)]


def _bounded(ticket: Ticket, rules: Rules) -> bool:
    """Whether another ticket of a stuck class may be tried: only one that promises to end in time."""
    return rules.backfill == "reserve" and ticket.length is not None


def _kept_from(ticket: Ticket, withheld: Mapping[str, datetime], now: datetime) -> frozenset[str]:
    """The devices kept from this ticket: all that are promised, but those it gives back in time."""
    if not withheld:
        return frozenset()
    end = now + (ticket.length or _EVER)
    return frozenset(d for d, start in withheld.items() if end > start)


def step(hours: float, unit: float) -> int:
    """Recent use as a step: nobody is put back for minutes, and each doubling is one step."""
    return int(log2(1.0 + max(0.0, hours) / unit))


Key = Callable[[Ticket, int], tuple[Any, ...]]


def _fair(usage: Usage, now: datetime, rules: Rules) -> Key:
    def key(ticket: Ticket, turn: int) -> tuple[Any, ...]:
        group = min((usage.groups.get(g, 0.0) for g in ticket.accounts), default=0.0)
        mine = step(usage.users.get(ticket.user, 0.0), rules.fair_unit)
        return (-aged(ticket, now, rules), turn, mine, step(group, rules.fair_unit))

    return key


def _fifo(usage: Usage, now: datetime, rules: Rules) -> Key:
    return lambda ticket, turn: ()


def _multifactor(usage: Usage, now: datetime, rules: Rules) -> Key:
    """As Slurm's multifactor plugin: a weighted sum of age, fair share and priority, each in 0..1."""
    total = sum(usage.users.values()) or 1.0
    people = max(1, len(usage.users))

    def key(ticket: Ticket, turn: int) -> tuple[Any, ...]:
        age = min(1.0, (now - ticket.arrived) / timedelta(days=7))
        share = 2.0 ** -(usage.users.get(ticket.user, 0.0) / total * people)
        return (-(1000 * age + 1000 * share + 1000 * ticket.priority),)

    return key


def _shortest(usage: Usage, now: datetime, rules: Rules) -> Key:
    return lambda ticket, turn: (ticket.length or _EVER,)


_ORDERS: dict[str, Callable[[Usage, datetime, Rules], Key]] = {
    "fair": _fair,
    "fifo": _fifo,
    "multifactor": _multifactor,
    "shortest": _shortest,
}
