"""The strip of GPUs: every card cut by its compute slices, each piece with its state in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..core import text
from ..placement.devices import WHOLE_GPU_SLICES, DeviceStatus


@dataclass(frozen=True)
class Segment:
    """One device on the strip. ``state`` picks the look, ``label`` says it in words."""

    uuid: str
    profile: str
    memory: str
    slices: int
    state: str
    label: str
    detail: str
    mine: bool

    @property
    def spoken(self) -> str:
        """The whole segment as one phrase."""
        return f"{self.profile}, {self.memory}: {self.label}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class CardStrip:
    """A physical card with its devices in display order."""

    uuid: str
    title: str
    name: str
    segments: tuple[Segment, ...]

    @property
    def free(self) -> int:
        """How many of its devices are free."""
        return sum(s.state == "free" for s in self.segments)

    @property
    def summary(self) -> str:
        """``3 of 7 free``."""
        return f"{self.free} of {len(self.segments)} free"


@dataclass(frozen=True)
class Strip:
    """All cards. ``problem`` says why there is nothing to show, where that is so."""

    cards: tuple[CardStrip, ...]
    problem: str = ""
    updated: str = ""
    """When the reading was made, ISO 8601."""

    @property
    def updated_text(self) -> str:
        """The time of the reading, for browsers without JavaScript."""
        when = text.parse_time(self.updated)
        return text.second(when) if when else self.updated

    @property
    def free(self) -> int:
        """Free devices of the machine."""
        return sum(c.free for c in self.cards)

    @property
    def total(self) -> int:
        """All devices of the machine."""
        return sum(len(c.segments) for c in self.cards)

    @property
    def summary(self) -> str:
        """One sentence for the heading."""
        if not self.cards:
            return self.problem or "This machine offers no GPU; CPU sessions work as always."
        return f"{self.free} of {text.plural(self.total, 'device')} free"


_MIG = re.compile(r" MIG \S+(?: \(simulated\))?$")
LABELS: Mapping[str, str] = {
    "free": "free",
    "mine": "yours",
    "held": "in use",
    "foreign": "in use by another tool",
    "reserved": "reserved",
    "drained": "out of service",
    "lost": "not answering",
    "unready": "not ready",
}


def build_strip(
    statuses: Iterable[DeviceStatus],
    person: str,
    *,
    show_holders: bool = False,
    activity: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
    problem: str = "",
    updated: str = "",
) -> Strip:
    """Group devices by card.

    ``activity`` has a phrase by device UUID, such as ``idle 40 min``; ``titles`` a short name by card
    UUID. Holders other than ``person`` are named only when the site shows them.
    """
    cards = _by_card(statuses)
    names = {**_titles(cards), **(titles or {})}
    rows = []
    for uuid, devices in cards.items():
        slices = [d for d in devices if d.parent] or devices
        rows.append(
            CardStrip(
                uuid=uuid,
                title=names[uuid],
                name=_MIG.sub("", devices[0].name),
                segments=tuple(_segment(d, person, show_holders, activity or {}) for d in slices),
            )
        )
    return Strip(tuple(rows), problem=problem, updated=updated)


def card_titles(statuses: Iterable[DeviceStatus]) -> dict[str, str]:
    """``GPU 0``, ``GPU 1``, … by card UUID, in the order of the statuses."""
    return _titles(_by_card(statuses))


def _titles(cards: Iterable[str]) -> dict[str, str]:
    return {uuid: f"GPU {number}" for number, uuid in enumerate(cards)}


def _by_card(statuses: Iterable[DeviceStatus]) -> dict[str, list[DeviceStatus]]:
    cards: dict[str, list[DeviceStatus]] = {}
    for status in statuses:
        cards.setdefault(status.parent or status.uuid, []).append(status)
    return cards


def _segment(device: DeviceStatus, person: str, show_holders: bool, activity: Mapping[str, str]) -> Segment:
    mine = device.state == "held" and _project_of(device, person) is not None
    state = "mine" if mine else device.state
    return Segment(
        uuid=device.uuid,
        profile="whole GPU" if device.profile == "full" else device.profile,
        memory=text.memory(device.memory_mib),
        slices=max(1, round(device.equivalents * WHOLE_GPU_SLICES)),
        state=state,
        label=LABELS.get(state, device.state),
        detail=_detail(device, state, person, show_holders, activity.get(device.uuid, "")),
        mine=mine,
    )


def _project_of(device: DeviceStatus, person: str) -> str | None:
    """What of ``person``'s holds the device (may be empty for the default server), or None if nothing."""
    for holder in device.holder.split(" and "):
        owner, _, rest = holder.partition("/")
        if person and owner == person:
            return rest
    return None


def _detail(device: DeviceStatus, state: str, person: str, show_holders: bool, active: str) -> str:
    """What stands behind the state, without naming people the site does not name."""
    if state == "mine":
        return ", ".join(p for p in (_project_of(device, person), active) if p)
    if state in ("held", "foreign"):
        return ", ".join(p for p in (device.holder if show_holders else "", active) if p)
    return "" if state == "free" else device.reason
