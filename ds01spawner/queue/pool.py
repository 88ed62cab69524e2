"""The machine's devices as the queue sees them, on top of `placement.place`. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from ..placement.devices import Block, GpuRequest, Holding, Inventory
from ..placement.place import place
from ..placement.standing import standings
from ..placement.strategies import DEFAULT_STRATEGY
from .ticket import Target, Ticket

_KEPT = Block("reserved", "kept for somebody who is before you in the queue")


class PlacementPool:
    """One reading of the devices, from which grants are taken one after the other.

    ``ends`` says when each held device is expected to come free, by UUID; a device that is held and not
    named there is not expected to (a stranger's container, a process).
    """

    def __init__(
        self,
        inventory: Inventory,
        holdings: Iterable[Holding],
        blocks: Mapping[str, Block],
        ends: Mapping[str, datetime],
        strategy: str = DEFAULT_STRATEGY,
    ) -> None:
        """Take plain readings; nothing is read later."""
        self.inventory, self.blocks, self.strategy = inventory, dict(blocks), strategy
        self.holdings, self.ends = list(holdings), dict(ends)
        self._exemptions = frozenset[str]().union(*(b.exempt for b in self.blocks.values()))
        self._eligible: dict[Hashable, frozenset[str]] = {}

    def key(self, ticket: Ticket) -> Hashable:
        """The request and those of the ticket's keys that lift some block."""
        return (ticket.request, ticket.keys & self._exemptions)

    def find(self, ticket: Ticket, withheld: frozenset[str]) -> tuple[str, ...] | None:
        """See `Pool.find`."""
        if not ticket.request.wants_gpu:
            return ()
        return self._place(ticket, self.holdings, withheld)

    def fits(self, ticket: Ticket, holdings: Iterable[Holding]) -> tuple[str, ...] | None:
        """The devices it would get if only these holdings stood."""
        return self._place(ticket, list(holdings), frozenset())

    def take(self, ticket: Ticket, devices: tuple[str, ...]) -> None:
        """See `Pool.take`."""
        self.holdings += [
            Holding(uuid, holder="somebody in the queue", kind="session", user=ticket.user)
            for uuid in devices
        ]

    def target(self, ticket: Ticket, withheld: frozenset[str]) -> Target | None:
        """The devices it gets when sessions end in the expected order: more ended, never fewer free."""
        times = sorted({self.ends[h.uuid] for h in self.holdings if h.uuid in self.ends})
        low, high, best = 0, len(times) - 1, None
        while low <= high:
            middle = (low + high) // 2
            left = [h for h in self.holdings if h.uuid not in self.ends or self.ends[h.uuid] > times[middle]]
            devices = self._place(ticket, left, withheld)
            if devices:
                best, high = Target(devices, times[middle]), middle - 1
            else:
                low = middle + 1
        return best

    def eligible(self, ticket: Ticket) -> frozenset[str]:
        """Devices of the wanted kind that the policy allows and nothing but holders keeps."""
        if not ticket.request.wants_gpu:
            return frozenset()
        key = self.key(ticket)
        if key not in self._eligible:
            found = standings(self.inventory, (), self.blocks, ticket.keys)
            self._eligible[key] = frozenset(
                s.device.uuid for s in found if s.free and self._suits(ticket.request, s.device.uuid)
            )
        return self._eligible[key]

    def why(self, ticket: Ticket) -> str:
        """The sentence of `place`, or nothing where it would now find a device."""
        if not ticket.request.wants_gpu:
            return ""
        return place(
            ticket.request,
            self.inventory,
            self.holdings,
            self.blocks,
            strategy=self.strategy,
            keys=ticket.keys,
        ).refused

    def _place(
        self, ticket: Ticket, holdings: list[Holding], withheld: frozenset[str]
    ) -> tuple[str, ...] | None:
        blocks = {**self.blocks, **dict.fromkeys(withheld, _KEPT)} if withheld else self.blocks
        found = place(
            ticket.request, self.inventory, holdings, blocks, strategy=self.strategy, keys=ticket.keys
        )
        return tuple(d.uuid for d in found.devices) if found.ok else None

    def _suits(self, request: GpuRequest, uuid: str) -> bool:
        """Whether `place` could ever give this device for one piece of the request."""
        only = replace(self.inventory, devices=tuple(d for d in self.inventory.devices if d.uuid == uuid))
        return place(replace(request, count=1), only, (), {}, strategy=self.strategy).ok
