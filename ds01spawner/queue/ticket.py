"""What the queue speaks of: tickets, rules, grants and waits. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ..placement.devices import GpuRequest

TicketState = Literal["waiting", "granted", "starting", "started", "expired", "cancelled", "failed"]
LIVE: tuple[TicketState, ...] = ("waiting", "granted", "starting")
QUEUE_KEY = "queue"
"""The key that lifts the guard on devices people wait for: only the queue itself has it."""


@dataclass(frozen=True)
class Ticket:
    """A place in the queue."""

    id: str
    user: str
    arrived: datetime
    request: GpuRequest = field(default_factory=GpuRequest)
    server: str = ""
    groups: tuple[str, ...] = ()
    course: str = ""
    """The course whose environment is asked for, where its owner may start that."""
    priority: int = 0
    """From the policy; higher is served first."""
    state: TicketState = "waiting"
    length: timedelta | None = None
    """The session's longest life, where the policy or the person bounds it."""

    @property
    def keys(self) -> frozenset[str]:
        """What lifts a block for this ticket."""
        mine = {f"ticket:{self.id}", f"user:{self.user}", QUEUE_KEY}
        return frozenset(mine | {f"group:{g}" for g in self.groups} | self._course)

    @property
    def accounts(self) -> tuple[str, ...]:
        """Whose use is compared after the person's own: that of the course it is for, else the groups'."""
        return tuple(self._course) or self.groups

    @property
    def _course(self) -> frozenset[str]:
        return frozenset({f"course:{self.course}"} if self.course else ())

    @property
    def kind(self) -> str:
        """The class of devices asked for, in words that name nobody."""
        profile = {"none": "CPU only", "auto": "any GPU", "full": "whole GPU"}
        words = profile.get(self.request.profile, self.request.profile)
        return f"{self.request.count} × {words}" if self.request.count > 1 else words


@dataclass(frozen=True)
class Usage:
    """Decayed GPU-hours (see `store.usage.decayed`): what fair share compares."""

    users: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, float] = field(default_factory=dict)
    """By group, and by ``course:…``."""


@dataclass(frozen=True)
class Rules:
    """How the line is ordered and who may pass whom."""

    order: Literal["fair", "fifo", "multifactor", "shortest"] = "fair"
    backfill: Literal["reserve", "greedy", "none"] = "reserve"
    """``reserve``: whoever cannot start keeps the devices it will start on, and only those pass who end
    before; ``greedy``: whoever fits passes; ``none``: nobody passes."""
    ageing: timedelta = timedelta(hours=6)
    """Waiting this long counts as much as one point of priority."""
    fair_unit: float = 1.0
    """GPU-hours of recent use below which people count as equal; above it each doubling is a step."""
    usual: timedelta = timedelta(hours=4)
    """How long a session usually lasts; the service puts in what it has learned."""
    yields: timedelta = timedelta(hours=48)
    """Nobody leaves a device to those who can use nothing else when these came so much later."""


@dataclass(frozen=True)
class Grant:
    """Devices for a ticket, to be held from now on."""

    ticket: Ticket
    devices: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """How long a wait will take, with what that is based on."""

    p50: timedelta
    p90: timedelta
    basis: str
    model90: timedelta = timedelta(0)
    """The p90 before it was corrected by experience; kept to learn from."""


@dataclass(frozen=True)
class Wait:
    """Why a ticket waits, and where it stands."""

    ticket: Ticket
    reason: str
    code: Literal["busy", "behind", "kept", "limit", "impossible"]
    position: int
    ahead: tuple[tuple[str, int], ...] = ()
    """Those before it who want some of the same devices, by class."""
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Target:
    """The devices a waiting ticket is expected to start on, and when."""

    devices: tuple[str, ...]
    start: datetime
