"""Devices and what stands against using them. Pure values; the UUID is the key, never an index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

WHOLE_GPU_SLICES = 7
"""A whole GPU counts as seven compute slices; a MIG slice as many as it has (quota unit: n/7)."""

State = Literal["free", "held", "foreign", "lost", "drained", "unready", "reserved"]
Mode = Literal["nvml", "simulated", "none"]


@dataclass(frozen=True)
class Device:
    """A schedulable unit: a whole GPU (``parent`` is None) or one MIG slice of the card ``parent``."""

    uuid: str
    name: str
    profile: str
    """``"full"`` for a whole GPU, else the MIG profile such as ``"1g.10gb"``."""
    memory_mib: int
    compute_slices: int = WHOLE_GPU_SLICES
    parent: str | None = None
    index: int = 0
    """Position for a stable display order only; never a key."""

    @property
    def equivalents(self) -> float:
        """Quota weight in GPU-equivalents: 1.0 for a whole GPU, compute slices / 7 for a slice."""
        return self.compute_slices / WHOLE_GPU_SLICES

    @property
    def card(self) -> str:
        """UUID of the physical card this device is, or is a part of."""
        return self.parent or self.uuid

    def excludes(self, other: Device) -> bool:
        """Whether holding this device makes ``other`` unusable: itself, its card, or its slices."""
        return self.uuid == other.uuid or self.card == other.uuid or other.card == self.uuid


@dataclass(frozen=True)
class Block:
    """Something that keeps a device from being granted, other than a container holding it."""

    state: State
    reason: str
    until: str = ""
    """When it could change, as an ISO 8601 time with zone, or empty when unknown."""
    exempt: frozenset[str] = frozenset()
    """Tickets, users or groups the block does not apply to (``user:alice``, ``group:nlp``, ``ticket:…``)."""


@dataclass(frozen=True)
class Holding:
    """One device held by one holder, as read from the host."""

    uuid: str
    holder: str
    """What holds it, for people: ``alice/thesis``, ``container dcgm-exporter``, ``process 4711``."""
    kind: Literal["session", "foreign", "process"] = "foreign"
    user: str = ""
    server: str = ""
    session: str = ""
    container: str = ""
    since: str = ""
    until: str = ""
    """When the holder goes at the latest, as an ISO 8601 time with zone, or empty when unknown."""


@dataclass(frozen=True)
class Card:
    """A physical card as inventoried, whether or not anything on it can be granted."""

    uuid: str
    name: str
    memory_mib: int
    mig_enabled: bool = False
    state: Literal["ok", "lost", "unready"] = "ok"
    reason: str = ""
    index: int = 0
    minor: int | None = None
    """N of ``/dev/nvidiaN``; not the index. None when unknown: a container given a node then counts as
    holding every card."""


@dataclass(frozen=True)
class Inventory:
    """One consistent reading of the machine's GPUs.

    ``blocks`` holds what the reading itself knows to be wrong, by device or card UUID (lost, unready).
    ``state`` is the driver's: ``ok`` when it answered, else why it did not, with a sentence in
    ``reason``. A reading that is not ``ok`` offers nothing.
    """

    mode: Mode
    devices: tuple[Device, ...] = ()
    cards: tuple[Card, ...] = ()
    blocks: Mapping[str, Block] = field(default_factory=dict)
    state: Literal["ok", "no-driver", "not-loaded", "version-mismatch", "error"] = "ok"
    reason: str = ""
    driver: str = ""
    cuda: str = ""

    def by_uuid(self) -> dict[str, Device]:
        """The devices keyed by UUID."""
        return {d.uuid: d for d in self.devices}


@dataclass(frozen=True)
class GpuRequest:
    """What a session asks for: a profile (or ``"none"``, ``"full"``, ``"auto"``) and how many of it."""

    profile: str = "none"
    count: int = 1
    allowed: frozenset[str] | None = None
    """Profiles the policy allows (``"full"`` included where it is), or None for all."""
    max_equivalents: float | None = None
    """Quota left for all devices of this request together, or None for no limit."""
    preemptible: bool = False
    min_memory_mib: int = 0
    """For ``"auto"``: the least memory a device must have to be sufficient."""
    full_gpu: bool = True
    """Whether whole GPUs may be granted at all; says no to them also where ``allowed`` is None."""

    @property
    def wants_gpu(self) -> bool:
        """Whether a device is asked for at all."""
        return self.profile != "none" and self.count > 0


@dataclass(frozen=True)
class Placement:
    """The devices chosen, or why none. ``devices`` is empty exactly when ``refused`` is set."""

    devices: tuple[Device, ...] = ()
    refused: str = ""
    code: str = ""
    """``"full"`` (all busy), ``"unavailable"`` (drained, lost, unready, reserved), or what waiting cannot
    mend: ``"no-such-profile"`` (too few exist), ``"not-allowed"`` (policy), ``"over-limit"`` (quota)."""
    when: str = ""
    """When it could change, for people; empty when unknown."""

    @property
    def ok(self) -> bool:
        """Whether devices were found."""
        return not self.refused


@dataclass(frozen=True)
class DeviceStatus:
    """One device as people see it; the fields are those of ``ds01 gpus --json``."""

    uuid: str
    parent: str | None
    name: str
    profile: str
    memory_mib: int
    equivalents: float
    state: State
    holder: str = ""
    """Who or what holds it; may name a person, so a page shows it only to those who may see it."""
    reason: str = ""
    """Why it is not free, without anybody's name."""
    until: str = ""
    """When that could change, as an ISO 8601 time with zone, or empty when unknown."""


@dataclass(frozen=True)
class Availability:
    """How many devices of one profile there are and are free, and why the others are not."""

    profile: str
    total: int
    free: int
    memory_mib: int
    equivalents: float
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many devices each reason keeps from being free, most first."""
    until: str = ""
    """The earliest time one of them could become free, or empty when unknown."""
