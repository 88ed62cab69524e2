"""How devices reach a container. Pure, but for reading CDI files.

Devices are always asked for by UUID and with exactly one request that is not empty: an empty one hands
out every GPU on many engines, two of them lose the first, and an index may mean another slice tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from ...core.errors import EngineError
from ...placement.devices import Block, Inventory
from ..base import Attach
from .answers import InfoJson
from .cdi import cdi_names

Mode = Literal["cdi", "nvidia", "simulated", "none"]

CDI_KIND = "nvidia.com/gpu"
VOID = "void"
REFRESH = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"


def choose_attach(
    info: InfoJson,
    inventory: Inventory,
    wanted: str = "auto",
    names: AbstractSet[str] | None = None,
) -> Attach:
    """How to attach the devices of ``inventory`` on the engine that answered ``info``.

    ``auto`` is CDI where the engine knows at least one of the devices by UUID, else an NVIDIA device
    request. ``names`` are the CDI devices, read from ``info`` when not given.
    """
    if wanted == "none" or inventory.mode == "none":
        return Attach("none", inventory.reason or "no device is attached to any session")
    if wanted == "simulated" or inventory.mode == "simulated":
        return Attach("simulated", "sessions get no real device")
    if wanted not in ("auto", "cdi", "nvidia"):
        raise EngineError(f"attach = {wanted!r} is not known; use auto, cdi, nvidia, simulated or none")
    if wanted == "nvidia":
        return Attach("nvidia", "the settings ask for NVIDIA device requests")
    known = cdi_names(info) if names is None else names
    found = [d for d in inventory.devices if _name(d.uuid) in known]
    if wanted == "cdi":
        return Attach("cdi", "the settings ask for CDI", cdi_problems(inventory, known))
    if found:
        reason = f"the engine knows {len(found)} of {len(inventory.devices)} devices as CDI devices by UUID"
        return Attach("cdi", reason, cdi_problems(inventory, known))
    return Attach("nvidia", "the engine knows none of the devices as a CDI device by UUID")


def attach_kwargs(mode: str, uuids: Sequence[str]) -> dict[str, Any]:
    """The part of the host config that attaches ``uuids``; empty when no device or no real one is meant."""
    if not uuids or mode in ("simulated", "none"):
        return {}
    if any(not re.fullmatch(r"(?:GPU|MIG)-[A-Za-z0-9/-]+", uuid) for uuid in uuids):
        raise EngineError("a device is not named by its UUID; nothing is attached")
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": list(uuids), "Capabilities": [["gpu"]]}
    if mode == "cdi":
        request |= {"Driver": "cdi", "DeviceIDs": [_name(u) for u in uuids], "Capabilities": []}
    elif mode != "nvidia":
        raise EngineError(f"attach mode {mode!r} is not known; nothing is attached")
    return {"DeviceRequests": [{**request, "Options": {}}]}


def gpu_env(uuids: Sequence[str]) -> dict[str, str]:
    """What a session is told about its devices, and what keeps NVIDIA's runtime from adding others.

    ``void`` stands whatever the attach mode; the engine itself puts the UUIDs behind it where the runtime
    hook has to read them.
    """
    return {"DS01_GPU_UUIDS": ",".join(uuids), "NVIDIA_VISIBLE_DEVICES": VOID}


def cdi_problems(inventory: Inventory, names: AbstractSet[str]) -> dict[str, Block]:
    """A block for every device that the driver has and the engine's CDI list has not."""
    reason = f"the engine has no CDI device for it; refresh the list: {REFRESH}"
    return {d.uuid: Block("unready", reason) for d in inventory.devices if _name(d.uuid) not in names}


def stale_names(inventory: Inventory, names: AbstractSet[str]) -> list[str]:
    """CDI devices by UUID that the driver has not: left over from an earlier layout."""
    present = {_name(u) for u in (*(d.uuid for d in inventory.devices), *(c.uuid for c in inventory.cards))}
    by_uuid = (n for n in names if n.startswith((f"{CDI_KIND}=GPU-", f"{CDI_KIND}=MIG-")))
    return sorted(n for n in by_uuid if n not in present)


def _name(uuid: str) -> str:
    return f"{CDI_KIND}={uuid}"
