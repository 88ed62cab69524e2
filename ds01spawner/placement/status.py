"""The state of every device, and how many of each profile are free. Pure.

One function feeds ``ds01 gpus``, the strip on the launch page, the form and the API.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from .devices import Availability, Block, Card, DeviceStatus, Holding, Inventory, State
from .standing import Standing, standings


def status(
    inventory: Inventory,
    holdings: Iterable[Holding] = (),
    blocks: Mapping[str, Block] | None = None,
    *,
    keys: frozenset[str] = frozenset(),
) -> tuple[DeviceStatus, ...]:
    """Every device in stable order, and every card that offers none because something is wrong with it.

    A device that is blocked and held shows the block as its state and who holds it as its holder; a
    reservation shows only while nobody holds the device.
    """
    holdings = tuple(holdings)
    rows = [_row(s) for s in standings(inventory, holdings, blocks, keys)]
    offering = {d.card for d in inventory.devices}
    rows += [_card_row(c, holdings) for c in inventory.cards if c.uuid not in offering and c.state != "ok"]
    return tuple(rows)


def availability(statuses: Iterable[DeviceStatus]) -> tuple[Availability, ...]:
    """Per profile, smallest first: how many there are, how many are free, and why the others are not."""
    by_profile: dict[str, list[DeviceStatus]] = {}
    for row in statuses:
        by_profile.setdefault(row.profile, []).append(row)
    found = [_availability(profile, rows) for profile, rows in by_profile.items()]
    return tuple(sorted(found, key=lambda a: (a.memory_mib, a.equivalents, a.profile)))


def _availability(profile: str, rows: list[DeviceStatus]) -> Availability:
    reasons = Counter(r.reason for r in rows if r.state != "free")
    free = sum(r.state == "free" for r in rows)
    times = [r.until for r in rows if r.state != "free" and r.until]
    return Availability(
        profile=profile,
        total=len(rows),
        free=free,
        memory_mib=min(r.memory_mib for r in rows),
        equivalents=rows[0].equivalents,
        reasons=dict(reasons.most_common()),
        until="" if free else min(times, default=""),
    )


def _row(standing: Standing) -> DeviceStatus:
    device = standing.device
    state, reason = _state(standing)
    return DeviceStatus(
        uuid=device.uuid,
        parent=device.parent,
        name=device.name,
        profile=device.profile,
        memory_mib=device.memory_mib,
        equivalents=round(device.equivalents, 4),
        state=state,
        holder=_holders(standing.holdings),
        reason=reason,
        until=_until(standing, state),
    )


def _state(standing: Standing) -> tuple[State, str]:
    block, holdings = standing.block, standing.holdings
    if block is not None and (block.state != "reserved" or not holdings):
        return block.state, block.reason or block.state
    if not holdings:
        return "free", ""
    device = standing.device
    direct = [h for h in holdings if h.uuid == device.uuid]
    if any(h.kind != "session" for h in holdings):
        process = all(h.kind == "process" for h in holdings if h.kind != "session")
        what = "a process outside every container" if process else "a container this service did not start"
        return "foreign", f"in use by {what}"
    if direct:
        return "held", "in use by a session"
    return "held", "its card is in use" if device.parent else "slices of this card are in use"


def _until(standing: Standing, state: State) -> str:
    block = standing.block
    if block is not None and state == block.state:
        return block.until
    ends = [h.until for h in standing.holdings]
    return max(ends) if ends and all(ends) else ""


def _holders(holdings: Iterable[Holding]) -> str:
    return " and ".join(dict.fromkeys(h.holder for h in holdings))


def _card_row(card: Card, holdings: tuple[Holding, ...]) -> DeviceStatus:
    """A card that offers no device. Its profile is ``full``, or ``mig`` where it is set up for slices."""
    return DeviceStatus(
        uuid=card.uuid,
        parent=None,
        name=card.name,
        profile="mig" if card.mig_enabled else "full",
        memory_mib=card.memory_mib,
        equivalents=1.0,
        state="lost" if card.state == "lost" else "unready",
        holder=_holders(h for h in holdings if h.uuid == card.uuid),
        reason=card.reason or card.state,
    )
