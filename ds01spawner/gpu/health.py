"""Which cards are well enough to be offered. Pure: state, reading and time in; state and blocks out.

A card with a fault is offered again only after two healthy polls in a row, some time apart. What is
remembered between readings is a `HealthState`; losing it loses patience, never a device: a fault that
is still there is seen again by the next reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..placement.devices import Block, Card, Device, Inventory
from .reading import LOST, NAMELESS, CardHealth, GpuReading, XidEvent

HEALTHY_POLLS = 2
POLL_SPACING = timedelta(seconds=20)
"""Healthy readings closer together than this count once."""
FORGET_AFTER = timedelta(days=7)
"""How long a card that vanished, or a slice that was re-made, is remembered."""
XID_MEMORY = 600.0
"""Seconds after which an Xid seen for the first time is history."""

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
"""Faults of the program that runs, not of the card."""
XIDS: Mapping[int, str] = {
    48: "an uncorrectable memory error",
    62: "its internal micro-controller halted",
    63: "a memory row was remapped",
    64: "a memory row could not be remapped",
    74: "an NVLink error",
    79: "it fell off the bus",
    92: "a high rate of memory errors",
    94: "a contained memory error",
    95: "an uncontained memory error",
    119: "its system processor does not answer",
    120: "its system processor failed",
}
RECOVERY: Mapping[int, str] = {
    1: "the GPU must be reset",
    2: "the machine must be rebooted",
    3: "its peer-to-peer traffic must be drained",
    4: "it must be drained and reset",
    5: "its IMEX domain must be recovered",
    6: "its bus must be reset",
    7: "the machine must be rebooted",
}


@dataclass(frozen=True)
class CardMemory:
    """What is remembered of one card."""

    card: Card
    devices: tuple[Device, ...] = ()
    seen: str = ""
    """When it was last in a reading, ISO 8601."""
    fault: str = ""
    """Sentence of the fault that keeps it back, or empty."""
    lost: bool = False
    since: str = ""
    healthy: int = 0
    """Healthy polls in a row since the fault."""
    polled: str = ""
    """When a healthy poll was last counted."""


@dataclass(frozen=True)
class HealthState:
    """Memory between readings: cards by UUID, and slices that are gone with their card and the time."""

    cards: Mapping[str, CardMemory] = field(default_factory=dict)
    former: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    xid: int = -1
    """Sequence number of the last Xid line taken into account, and the boot that counted it."""
    boot: str = ""


def assess(state: HealthState, reading: GpuReading, now: datetime) -> tuple[HealthState, GpuReading]:
    """The next state, and the reading with every block that health adds.

    Cards that were there and are not come back as lost, slices that are gone go to ``former`` with the
    UUID of their card. A reading that is not ``ok``, or not of real GPUs, changes nothing.
    """
    inventory = reading.inventory
    former = {uuid: card for uuid, (card, _) in state.former.items()}
    if inventory.mode != "nvml" or inventory.state != "ok":
        return state, replace(reading, former=former)
    inventory, missing = _recognise(inventory, state)
    counted = state.xid if reading.boot == state.boot else -1
    fresh = [x for x in reading.xids if x.sequence > counted and x.age <= XID_MEMORY]
    cards: dict[str, CardMemory] = {}
    for card in inventory.cards:
        if card.uuid.startswith(NAMELESS):
            continue  # blocked by the reading itself; a card cannot be remembered without its UUID
        devices = tuple(d for d in inventory.devices if d.card == card.uuid)
        fault = _fault(card, reading.health.get(card.uuid), fresh)
        previous = state.cards.get(card.uuid) or CardMemory(card)
        cards[card.uuid] = _remember(previous, card, devices, fault, now)
    gone = {m.card.uuid: _lose(m, now) for m in missing}
    cards |= {u: m for u, m in gone.items() if now - _time(m.seen, now) <= FORGET_AFTER}
    last = max([counted, *(x.sequence for x in reading.xids)])
    following = HealthState(cards, _former(state, inventory, now), last, reading.boot)
    former = {uuid: card for uuid, (card, _) in following.former.items()}
    return following, replace(reading, inventory=_with_blocks(inventory, following), former=former)


def _recognise(inventory: Inventory, state: HealthState) -> tuple[Inventory, list[CardMemory]]:
    """Give nameless lost cards the identity of known ones that are missing; return who is missing still.

    NVML cannot tell the UUID of a card it has lost. With as many missing as nameless cards the identity
    is sure enough to be shown; otherwise all that are missing are listed beside the nameless ones.
    """
    inventory = _whole(inventory, state)
    present = {c.uuid for c in inventory.cards}
    missing = [m for uuid, m in state.cards.items() if uuid not in present]
    nameless = {c.uuid for c in inventory.cards if c.uuid.startswith(NAMELESS)}
    if not nameless or not missing or len(nameless) > len(missing):
        return inventory, missing
    return (
        replace(
            inventory,
            cards=tuple(c for c in inventory.cards if c.uuid not in nameless),
            devices=tuple(d for d in inventory.devices if d.uuid not in nameless),
            blocks={u: b for u, b in inventory.blocks.items() if u not in nameless},
        ),
        missing,
    )


def _whole(inventory: Inventory, state: HealthState) -> Inventory:
    """Put the known slices of a lost card in the place of the whole card that the reading had to assume."""
    devices = list(inventory.devices)
    for card in inventory.cards:
        known = state.cards.get(card.uuid)
        own = [d for d in devices if d.card == card.uuid]
        if card.state == "lost" and known and known.devices and [d.uuid for d in own] == [card.uuid]:
            devices = [d for d in devices if d.uuid != card.uuid] + list(known.devices)
    return replace(inventory, devices=tuple(sorted(devices, key=lambda d: d.index)))


def _fault(card: Card, health: CardHealth | None, xids: Iterable[XidEvent]) -> str:
    """The worst thing known of a card, as a clause, or an empty string."""
    if card.state == "lost":
        return card.reason or LOST
    if health is None:
        return ""
    if health.recovery_action:
        wanted = RECOVERY.get(health.recovery_action, f"recovery action {health.recovery_action} is needed")
        return f"the driver says that {wanted}"
    if health.remap_failed:
        return "a faulty memory row could not be remapped; the card should be replaced"
    if health.ecc_uncorrected:
        errors = "error" if health.ecc_uncorrected == 1 else "errors"
        told = f"{health.ecc_uncorrected} uncorrectable memory {errors}"
        return f"{told} since the driver was loaded; the GPU must be reset"
    for event in xids:
        if event.code not in APPLICATION_XIDS and _same_bus(event.pci, health.pci):
            meaning = XIDS.get(event.code, "see NVIDIA's list of Xid errors")
            return f"the driver reported Xid {event.code} ({meaning})"
    return ""


def _same_bus(first: str, second: str) -> bool:
    """Whether two PCI addresses are one card: ``0000:3b:00`` and ``00000000:3B:00.0`` are."""

    def key(text: str) -> tuple[int, ...] | None:
        try:
            return tuple(int(p, 16) for p in text.split(".")[0].split(":"))
        except ValueError:
            return None

    return key(first) is not None and key(first) == key(second)


def _remember(
    previous: CardMemory, card: Card, devices: tuple[Device, ...], fault: str, now: datetime
) -> CardMemory:
    memory = replace(previous, card=card, devices=devices or previous.devices, seen=_iso(now))
    if fault:
        since = previous.since if previous.fault else _iso(now)
        return replace(
            memory, fault=fault, lost=card.state == "lost", since=since, healthy=0, polled=_iso(now)
        )
    if not previous.fault:
        return replace(memory, fault="", lost=False, since="", healthy=0)
    polled = _time(previous.polled, now - POLL_SPACING)
    if now < polled:  # by a clock that was ahead: the card would be kept back until it is right
        return replace(memory, polled=_iso(now))
    if now - polled < POLL_SPACING:
        return memory
    if previous.healthy + 1 >= HEALTHY_POLLS:
        return replace(memory, fault="", lost=False, since="", healthy=0, polled="")
    return replace(memory, healthy=previous.healthy + 1, polled=_iso(now))


def _lose(memory: CardMemory, now: datetime) -> CardMemory:
    return replace(
        memory, fault=LOST, lost=True, healthy=0, polled=_iso(now), since=memory.since or _iso(now)
    )


def _former(state: HealthState, inventory: Inventory, now: datetime) -> dict[str, tuple[str, str]]:
    """UUIDs that were slices (or whole cards, before MIG) and are no device any more."""
    current = {d.uuid for d in inventory.devices}
    cards = {c.uuid for c in inventory.cards}
    former = {u: v for u, v in state.former.items() if now - _time(v[1], now) <= FORGET_AFTER}
    for memory in state.cards.values():
        for device in memory.devices:
            if device.parent and device.parent in cards:
                former.setdefault(device.uuid, (device.parent, _iso(now)))
    return {u: v for u, v in former.items() if u not in current}


def _with_blocks(inventory: Inventory, state: HealthState) -> Inventory:
    """The inventory with lost cards in their places and a block on all that is not well."""
    devices, cards = list(inventory.devices), list(inventory.cards)
    blocks = dict(inventory.blocks)
    answering = {c.uuid for c in cards if c.state != "lost"}
    present = {c.uuid for c in cards}
    for uuid, memory in state.cards.items():
        if not memory.fault:
            continue
        if uuid not in present:
            cards.append(replace(memory.card, state="lost", reason=memory.fault))
            devices.extend(memory.devices)
        block = _block(memory, uuid in answering)
        for name in (uuid, *(d.uuid for d in memory.devices)):
            if name not in blocks or blocks[name].state != "lost":
                blocks[name] = block
    return replace(
        inventory,
        devices=tuple(sorted(devices, key=lambda d: d.index)),
        cards=tuple(sorted((_told(c, state) for c in cards), key=lambda c: c.index)),
        blocks=blocks,
    )


def _block(memory: CardMemory, answering: bool) -> Block:
    watched = f"it was out of order ({memory.fault}); it answers again and is watched a little longer"
    lost = memory.lost and not answering
    return Block(
        "lost" if lost else "unready",
        watched if memory.healthy or (memory.lost and answering) else memory.fault,
    )


def _told(card: Card, state: HealthState) -> Card:
    memory = state.cards.get(card.uuid)
    if memory is None or not memory.fault or card.state != "ok":
        return card
    return replace(card, state="unready", reason=_block(memory, True).reason)


def _iso(when: datetime) -> str:
    return when.isoformat()


def _time(text: str, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return otherwise
