"""The document in which the answers of NVML travel, from `child.py` or `simulated.py`. Pure types."""

from __future__ import annotations

from typing import TypedDict

Fault = tuple[int, str]
"""An error code and the function of NVML that gave it."""


class MemoryJson(TypedDict):
    """Memory of a device in MiB."""

    total: int
    used: int


class ProcessJson(TypedDict):
    """A process on a device; -1 stands for what the driver does not tell."""

    pid: int
    gi: int
    ci: int
    used: int


class AttributesJson(TypedDict, total=False):
    """What a slice consists of."""

    gpu_slices: int
    compute_slices: int
    memory_mib: int


class HealthJson(TypedDict, total=False):
    """What a card says about itself; a fact it cannot tell is left out."""

    errors: list[Fault]
    remap_pending: bool
    remap_failed: bool
    ecc_uncorrected: int
    recovery_action: int


class DeviceJson(TypedDict, total=False):
    """What cards and slices have in common. A key that is left out was not reached, or is not known."""

    uuid: str | None
    name: str | None
    memory_mib: int
    error: Fault
    used_mib: int | None
    processes: list[ProcessJson] | None
    processes_code: int
    load: float | None


class _SliceJson(TypedDict):
    index: int


class SliceJson(_SliceJson, DeviceJson, total=False):
    """A MIG device; ``index`` is its place on the card."""

    gi: int | None
    ci: int | None
    attributes: AttributesJson


class _CardJson(TypedDict):
    index: int
    slices: list[SliceJson]


class CardJson(_CardJson, DeviceJson, total=False):
    """A card; ``mig`` is whether MIG is on, and whether it will be after the next reset."""

    pci: str
    minor: int | None
    mig: list[int]
    health: HealthJson


class _ReadingJson(TypedDict):
    code: int


class ReadingJson(_ReadingJson, total=False):
    """The whole document. With a ``code`` other than 0 there is nothing else in it."""

    stable: bool
    cards: list[CardJson]
    driver: str
    cuda: int
