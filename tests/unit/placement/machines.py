"""Machines the placement tests share, as plain values."""

from __future__ import annotations

from ds01spawner.placement.devices import Card, Device, Holding, Inventory

A100 = "NVIDIA A100-SXM4-80GB"
SEVENTHS = {"1g.10gb": 1, "2g.20gb": 2, "3g.40gb": 3, "4g.40gb": 4}
MIB = {"1g.10gb": 9984, "2g.20gb": 19968, "3g.40gb": 40448, "4g.40gb": 40448}


def machine(*layouts: tuple[str, ...], mode: str = "simulated", **more) -> Inventory:
    """One card for each layout: an empty tuple is a whole GPU, else the profiles of its slices.

    Cards are ``GPU-0``, ``GPU-1``, …; slices ``MIG-<card>-<position>``.
    """
    cards, devices = [], []
    for n, slices in enumerate(layouts):
        card = f"GPU-{n}"
        cards.append(Card(card, A100, 81920, bool(slices), index=n, minor=n))
        if not slices:
            devices.append(Device(card, A100, "full", 81920, index=n * 100))
        for position, profile in enumerate(slices):
            uuid, index = f"MIG-{n}-{position}", n * 100 + 1 + position
            devices.append(Device(uuid, A100, profile, MIB[profile], SEVENTHS[profile], card, index))
    return Inventory(mode, tuple(devices), tuple(cards), **more)


FOUR_CARDS = machine(
    (), ("1g.10gb",) * 7, ("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"), ("4g.40gb", "3g.40gb")
)
"""Fourteen devices: a whole card, and three split differently."""


def held(*uuids: str, kind: str = "session", until: str = "") -> tuple[Holding, ...]:
    """Each of these devices held by somebody."""
    return tuple(
        Holding(u, "alice/thesis" if kind == "session" else "container x", kind, until=until) for u in uuids
    )
