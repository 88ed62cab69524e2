"""From the facts NVML told to devices, blocks and sentences. Pure: plain values in, plain values out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..placement.devices import WHOLE_GPU_SLICES, Block, Card, Device, Inventory
from .document import CardJson, Fault, ProcessJson, ReadingJson, SliceJson

SLICE_NAME = re.compile(r"\bMIG ((?:[1-7]c\.)?[1-7]g\.[0-9]{1,4}gb(?:\+[a-z.]{1,10})?)\s*$", re.IGNORECASE)
INDEX_STEP = 100
"""Display positions: card n is n × 100, its slices follow."""

NAMELESS = "GPU-unknown-"
"""Prefix in place of the UUID of a card that is so lost that NVML cannot name it."""

GPU_IS_LOST = 15
NOT_SUPPORTED = (3, 13)

DRIVER_STATES: Mapping[int, tuple[Literal["no-driver", "not-loaded", "version-mismatch", "error"], str]] = {
    12: ("no-driver", "no NVIDIA driver is installed on this machine (libnvidia-ml.so.1 is not there)"),
    9: (
        "not-loaded",
        "the NVIDIA driver is installed but its kernel module is not loaded; load it (modprobe nvidia) "
        "or reboot the machine",
    ),
    18: (
        "version-mismatch",
        "the NVIDIA driver was upgraded but its old kernel module still runs; reboot the machine. "
        "Sessions that already run are not affected",
    ),
    4: (
        "error",
        "this process may not open the NVIDIA devices; run it as a user who may read /dev/nvidiactl",
    ),
    -1: ("error", "the Python package nvidia-ml-py is not installed beside ds01spawner"),
    -2: (
        "error",
        "the Python module pynvml is an old fork; uninstall it and install nvidia-ml-py instead",
    ),
}

CARD_ERRORS: Mapping[int, str] = {
    4: "this process may not open the card",
    8: "the card's power cables are not attached as they must be",
    14: "the card's InfoROM is corrupted",
    16: "the card must be reset before it can be used",
    17: "the operating system blocked the request to the card",
    999: "the driver reports an unknown error",
}
LOST = (
    "the GPU no longer answers (it fell off the bus, or its driver gave it up); it needs a reset or a reboot"
)


@dataclass(frozen=True)
class GpuProcess:
    """A compute process that NVML sees on a device. ``pid`` is the host's."""

    pid: int
    uuid: str
    memory_mib: int | None = None


@dataclass(frozen=True)
class Activity:
    """What a device does now; None means that it cannot be known, which is never the same as zero.

    The load of a slice is known on cards with GPU performance monitoring (Hopper and later) only.
    """

    utilisation: float | None = None
    """Percent of the last moment in which the device computed, 0 to 100."""
    memory_mib: int | None = None
    processes: int | None = None


@dataclass(frozen=True)
class CardHealth:
    """What a card says about its own health; None where it cannot tell."""

    uuid: str
    index: int = 0
    pci: str = ""
    ecc_uncorrected: int | None = None
    """Uncorrectable memory errors since the driver was loaded or the card was reset."""
    remap_failed: bool | None = None
    remap_pending: bool | None = None
    recovery_action: int | None = None
    """NVML field 230: 0 none, else what the driver wants done."""
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class XidEvent:
    """An Xid error line of the kernel log."""

    pci: str
    code: int
    sequence: int
    age: float
    """Seconds between the event and the reading."""


@dataclass(frozen=True)
class GpuReading:
    """One reading of all GPUs: what there is, who computes on it, and how it is."""

    inventory: Inventory
    processes: tuple[GpuProcess, ...] = ()
    health: Mapping[str, CardHealth] = field(default_factory=dict)
    activity: Mapping[str, Activity] = field(default_factory=dict)
    xids: tuple[XidEvent, ...] = ()
    boot: str = ""
    """Which boot of the machine the sequence numbers of ``xids`` belong to."""
    former: Mapping[str, str] = field(default_factory=dict)
    """UUIDs that were devices once and are gone, with the UUID of the card they were on."""


def from_raw(raw: ReadingJson) -> GpuReading:
    """Turn the child's document into a reading. A document that is not stable offers nothing."""
    code = raw.get("code", 0)
    if code:
        state, reason = DRIVER_STATES.get(
            code, ("error", f"the NVIDIA driver answers with NVML error {code}")
        )
        return GpuReading(Inventory(mode="nvml", state=state, reason=reason))
    if not raw.get("stable"):
        return failed("the slices of a GPU are being changed right now; the next reading will tell")
    builder = _Builder()
    for card in raw["cards"]:
        builder.add(card)
    cuda = int(raw.get("cuda") or 0)
    inventory = Inventory(
        mode="nvml",
        devices=tuple(builder.devices),
        cards=tuple(builder.cards),
        blocks=builder.blocks,
        driver=str(raw.get("driver") or ""),
        cuda=f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "",
    )
    processes = tuple(sorted(builder.processes.values(), key=lambda p: (p.uuid, p.pid)))
    return GpuReading(inventory, processes, builder.health, builder.activity)


def failed(reason: str) -> GpuReading:
    """A reading that could not be taken: it offers nothing and says why."""
    return GpuReading(Inventory(mode="nvml", state="error", reason=reason))


class _Builder:
    """Collects devices, blocks and facts card by card."""

    def __init__(self) -> None:
        self.devices: list[Device] = []
        self.cards: list[Card] = []
        self.blocks: dict[str, Block] = {}
        self.health: dict[str, CardHealth] = {}
        self.activity: dict[str, Activity] = {}
        self.processes: dict[tuple[int, str], GpuProcess] = {}

    def add(self, raw: CardJson) -> None:
        index = int(raw["index"])
        uuid = str(raw.get("uuid") or f"{NAMELESS}{index}")
        name = str(raw.get("name") or f"GPU {index}")
        mig, pending = raw.get("mig") or [0, 0]
        block = _card_block(raw, index, bool(mig), bool(pending))
        memory = int(raw.get("memory_mib") or 0)
        self.cards.append(
            Card(
                uuid=uuid,
                name=name,
                memory_mib=memory,
                mig_enabled=bool(mig),
                state="ok" if block is None else "lost" if block.state == "lost" else "unready",
                reason="" if block is None else block.reason,
                index=index,
                minor=raw.get("minor"),
            )
        )
        self.health[uuid] = _health(raw, uuid, index)
        slices = [s for s in raw["slices"] if s.get("uuid")]
        if not slices:
            self.devices.append(Device(uuid, name, "full", memory, index=index * INDEX_STEP))
        for position, entry in enumerate(slices):
            self._slice(entry, uuid, memory, index * INDEX_STEP + 1 + position)
        if block is not None:
            self.blocks |= dict.fromkeys((uuid, *(str(s["uuid"]) for s in slices)), block)
        self._facts(raw, uuid, slices)

    def _slice(self, raw: SliceJson, parent: str, card_mib: int, index: int) -> None:
        uuid = str(raw["uuid"])
        profile, compute = slice_profile(raw, card_mib)
        memory = int(raw.get("memory_mib") or (raw.get("attributes") or {}).get("memory_mib") or 0)
        self.devices.append(
            Device(
                uuid, str(raw.get("name") or profile), profile or "unknown", memory, compute, parent, index
            )
        )
        if "error" in raw:
            lost = raw["error"][0] == GPU_IS_LOST
            self.blocks[uuid] = Block("lost" if lost else "unready", LOST if lost else _problem(raw["error"]))
        elif not profile:
            self.blocks[uuid] = Block("unready", "the driver does not tell which profile this slice has")

    def _facts(self, raw: CardJson, uuid: str, slices: Sequence[SliceJson]) -> None:
        for entry in (raw, *slices):
            own = str(entry.get("uuid") or uuid)
            if "error" in entry:
                continue
            listed, code = entry.get("processes"), entry.get("processes_code", 0)
            if listed is None and code not in NOT_SUPPORTED and (entry is not raw or not slices):
                reason = f"its processes cannot be listed (NVML error {code}), so it may be in use"
                self.blocks.setdefault(own, Block("unready", reason))
            for process in listed or ():
                for target in _targets(process, own, slices if entry is raw else []):
                    used = process["used"] if process["used"] >= 0 else None
                    self.processes.setdefault(
                        (process["pid"], target), GpuProcess(process["pid"], target, used)
                    )
            if entry is not raw or not slices:
                self.activity[own] = Activity(
                    entry.get("load"), entry.get("used_mib"), None if listed is None else len(listed)
                )


def _targets(process: ProcessJson, own: str, slices: Sequence[SliceJson]) -> list[str]:
    """The slices a card's process runs on, or the card where the driver names no instance."""
    gi, ci = process["gi"], process["ci"]
    found = [str(s["uuid"]) for s in slices if gi >= 0 and s.get("gi") == gi and ci in (-1, s.get("ci"))]
    return found or [own]


def _card_block(raw: CardJson, index: int, mig: bool, pending: bool) -> Block | None:
    errors = [raw["error"]] if "error" in raw else []
    errors += (raw.get("health") or {}).get("errors", [])
    codes = [e[0] for e in errors] + [raw.get("processes_code", 0)]
    if GPU_IS_LOST in codes:
        return Block("lost", LOST)
    if "error" in raw:
        return Block("unready", _problem(raw["error"]))
    if 16 in codes:
        return Block("unready", CARD_ERRORS[16])
    if mig != pending:
        turned = "on" if pending else "off"
        return Block("unready", f"MIG is being turned {turned} and waits for a reset of the card")
    if mig and not any(s.get("uuid") for s in raw["slices"]):
        untold = [s["error"] for s in raw["slices"] if "error" in s]
        if untold:
            return Block("unready", f"MIG is on, and its slices cannot be listed: {_problem(untold[0])}")
        return Block(
            "unready",
            "MIG is on but the card has no slices; make some "
            f"(nvidia-smi mig -i {index} -cgi <profiles> -C) or turn MIG off (nvidia-smi -i {index} -mig 0)",
        )
    return None


def _problem(error: Fault) -> str:
    code, asked = error
    return CARD_ERRORS.get(code, f"the driver answers {asked} with NVML error {code}")


def _nameless(raw: CardJson) -> list[Fault]:
    """Why slices of a card are missing: without a UUID they are no devices."""
    return [s["error"] for s in raw["slices"] if "error" in s and not s.get("uuid")]


def _health(raw: CardJson, uuid: str, index: int) -> CardHealth:
    health = raw.get("health") or {}
    return CardHealth(
        uuid=uuid,
        index=index,
        pci=str(raw.get("pci") or ""),
        ecc_uncorrected=health.get("ecc_uncorrected"),
        remap_failed=health.get("remap_failed"),
        remap_pending=health.get("remap_pending"),
        recovery_action=health.get("recovery_action"),
        errors=tuple(_problem(e) for e in (*health.get("errors", []), *_nameless(raw))),
    )


def slice_profile(raw: SliceJson, card_mib: int) -> tuple[str, int]:
    """Profile and compute slices of a MIG device: from its name, else from its attributes.

    Attributes name the profile as NVIDIA's tools do: the share of the card's memory, rounded up to
    eighths, times the card's size in GiB; ``c`` in front where the compute slices are fewer.
    """
    attributes = raw.get("attributes") or {}
    gpu = int(attributes.get("gpu_slices") or 0)
    compute = int(attributes.get("compute_slices") or 0)
    named = SLICE_NAME.search(str(raw.get("name") or ""))
    if named:
        profile = named[1].lower()
        return profile, compute or int(profile[0])
    memory = int(attributes.get("memory_mib") or 0)
    if not (gpu and compute and memory and card_mib):
        return "", min(compute or WHOLE_GPU_SLICES, WHOLE_GPU_SLICES)
    share = math.ceil(memory / card_mib * 8) / 8
    gib = round(share * math.ceil(card_mib / 1024))
    return (f"{compute}c." if compute != gpu else "") + f"{gpu}g.{gib}gb", compute
