"""What stands against each device: who holds it, and what blocks it. Pure.

A device is busy when itself, its card or one of its slices is held, and blocked when one of these is
blocked. Everything that places, lists or counts devices starts from here, so that it cannot disagree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .devices import Block, Device, Holding, Inventory

ALL_DEVICES = "*"
"""Key of a block that stands against every device."""
BLOCK_ORDER = ("lost", "unready", "drained", "reserved")
"""Which of several blocks is told: the one that takes most to lift comes first."""


@dataclass(frozen=True)
class Standing:
    """One device with the holdings and the block that keep it from being granted."""

    device: Device
    position: int
    """Place in the stable order of the inventory."""
    holdings: tuple[Holding, ...] = ()
    block: Block | None = None

    @property
    def free(self) -> bool:
        """Whether the device can be granted now."""
        return not self.holdings and self.block is None


def stable_order(inventory: Inventory) -> list[Device]:
    """The devices by card, position and UUID: the same order whatever order a reading gave."""
    cards = {c.uuid: c.index for c in inventory.cards}
    return sorted(
        inventory.devices, key=lambda d: (cards.get(d.card, 0), d.parent is not None, d.index, d.uuid)
    )


def standings(
    inventory: Inventory,
    holdings: Iterable[Holding] = (),
    blocks: Mapping[str, Block] | None = None,
    keys: frozenset[str] = frozenset(),
) -> tuple[Standing, ...]:
    """Every device of the inventory in stable order, with what stands against it.

    ``blocks`` are added to those of the inventory, by device or card UUID, or ``"*"``. A block whose
    ``exempt`` meets ``keys`` does not apply. An inventory that did not answer blocks everything it names.
    """
    slices: dict[str, list[str]] = defaultdict(list)
    for device in inventory.devices:
        if device.parent:
            slices[device.parent].append(device.uuid)
    held: dict[str, list[Holding]] = defaultdict(list)
    for holding in holdings:
        held[holding.uuid].append(holding)
    blocked = _blocks(inventory, blocks or {}, keys)

    found = []
    for position, device in enumerate(stable_order(inventory)):
        related = [device.uuid]
        if device.parent:
            related.append(device.parent)
        related += slices.get(device.uuid, ())
        mine = {id(h): h for uuid in related for h in held.get(uuid, ())}
        against = [b for uuid in (*related, ALL_DEVICES) for b in blocked.get(uuid, ())]
        if inventory.state != "ok":
            against.append(Block("unready", inventory.reason or "the GPU driver does not answer"))
        found.append(Standing(device, position, tuple(mine.values()), _worst(against)))
    return tuple(found)


def merge_blocks(*sources: Mapping[str, Block]) -> dict[str, Block]:
    """Blocks from several sources as one mapping; of two on one device the one harder to lift stays."""
    found: dict[str, Block] = {}
    for source in sources:
        for uuid, block in source.items():
            found[uuid] = _worst([b for b in (found.get(uuid), block) if b is not None]) or block
    return found


def used_by_card(all_standings: Iterable[Standing]) -> dict[str, int]:
    """Compute slices in use on each card; a device held through its card or slices counts once."""
    used: dict[str, int] = defaultdict(int)
    for standing in all_standings:
        device = standing.device
        if any(h.uuid in (device.uuid, device.parent) for h in standing.holdings):
            used[device.card] += device.compute_slices
    return used


def _blocks(
    inventory: Inventory, blocks: Mapping[str, Block], keys: frozenset[str]
) -> dict[str, list[Block]]:
    found: dict[str, list[Block]] = defaultdict(list)
    for source in (inventory.blocks, blocks):
        for uuid, block in source.items():
            if not block.exempt & keys:
                found[uuid].append(block)
    for card in inventory.cards:
        if card.state != "ok":
            found[card.uuid].append(Block(card.state, card.reason or f"the card is {card.state}"))
    return found


def _worst(blocks: list[Block]) -> Block | None:
    def rank(block: Block) -> int:
        return BLOCK_ORDER.index(block.state) if block.state in BLOCK_ORDER else len(BLOCK_ORDER)

    return min(blocks, key=rank) if blocks else None
