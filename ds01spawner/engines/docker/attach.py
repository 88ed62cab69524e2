"""How devices reach a container, and what on this host stands in the way. Pure, but for reading CDI files.

Devices are always asked for by UUID and with exactly one request that is not empty: an empty one hands
out every GPU on many engines, two of them lose the first, and an index may mean another slice tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import EngineError
from ...placement.model import Block, Inventory
from .cdi import cdi_names

Mode = Literal["cdi", "nvidia", "simulated", "none"]
Level = Literal["ok", "warning", "error"]

CDI_KIND = "nvidia.com/gpu"
VOID = "void"
REFRESH = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
ACCEPT = "accept-nvidia-visible-devices-envvar-when-unprivileged"
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"


@dataclass(frozen=True)
class Attach:
    """The way devices are attached, and why this one."""

    mode: Mode
    reason: str
    blocks: Mapping[str, Block] = field(default_factory=dict)
    """Devices that the engine could not attach now, with the command that mends it."""


@dataclass(frozen=True)
class Finding:
    """One result of a check of the host: what is so, why it matters, and what mends it."""

    level: Level
    what: str
    why: str = ""
    mend: str = ""


def choose_attach(
    info: Mapping[str, Any],
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


def gpu_findings(
    info: Mapping[str, Any],
    inventory: Inventory,
    wanted: str = "auto",
    names: AbstractSet[str] | None = None,
    toolkit: str | None = None,
) -> list[Finding]:
    """What ``ds01 check`` says about GPUs on this host.

    ``toolkit`` is the text of NVIDIA's ``config.toml``, or None where there is none or it cannot be read.
    """
    if inventory.state != "ok":
        return [Finding("error", "the GPUs cannot be read", inventory.reason)]
    known = cdi_names(info) if names is None else names
    attach = choose_attach(info, inventory, wanted, known)
    findings = [Finding("ok", f"devices: {inventory.mode}, attach: {attach.mode}", attach.reason)]
    findings += [
        Finding("error", f"card {c.index} ({c.name}) is {c.state}", c.reason)
        for c in inventory.cards
        if c.state != "ok"
    ]
    if attach.mode == "cdi":
        findings += _cdi_findings(inventory, known)
    if attach.mode in ("cdi", "nvidia"):
        findings += _engine_findings(info, attach.mode) + _toolkit_findings(info, attach.mode, toolkit or "")
    return findings


def _cdi_findings(inventory: Inventory, names: AbstractSet[str]) -> list[Finding]:
    findings = []
    missing, stale = cdi_problems(inventory, names), stale_names(inventory, names)
    if missing:
        findings.append(
            Finding(
                "error",
                f"{len(missing)} of {len(inventory.devices)} devices are missing from the engine's CDI list",
                "they are not offered until it is refreshed; making MIG slices anew does not refresh it",
                REFRESH,
            )
        )
    if stale:
        findings.append(
            Finding(
                "warning",
                f"the engine's CDI list has {len(stale)} devices that are gone",
                f"for instance {stale[0]}; a start on such a device fails",
                REFRESH,
            )
        )
    return findings or [Finding("ok", "the engine's CDI list has exactly the driver's devices")]


def _engine_findings(info: Mapping[str, Any], mode: Mode) -> list[Finding]:
    findings = []
    runtimes = info.get("Runtimes") or {}
    if mode == "nvidia" and "nvidia" not in runtimes:
        findings.append(
            Finding(
                "warning",
                "the engine knows neither CDI devices nor the NVIDIA runtime",
                "a session with a GPU starts only if nvidia-container-runtime-hook was in the engine's PATH "
                "when the engine started",
                "install nvidia-container-toolkit, then restart the engine; or turn CDI on and run "
                + REFRESH,
            )
        )
    if mode == "nvidia" and info.get("CgroupDriver") == "systemd":
        findings.append(
            Finding(
                "warning",
                "running sessions lose their GPU at the next systemctl daemon-reload",
                "the hook gives a device without telling systemd, which takes it away when it reloads",
                "use CDI: turn it on in the engine and run " + REFRESH,
            )
        )
    if info.get("DefaultRuntime") == "nvidia":
        findings.append(
            Finding(
                "warning",
                "the engine's default runtime is nvidia",
                "sessions are safe, but any other container whose image sets NVIDIA_VISIBLE_DEVICES or "
                "CUDA_VERSION gets every GPU, and holds them all as far as sessions are concerned",
                'remove "default-runtime" from /etc/docker/daemon.json and restart the engine',
            )
        )
    return findings


def _toolkit_findings(info: Mapping[str, Any], mode: Mode, toolkit: str) -> list[Finding]:
    findings = []
    accept = _setting(toolkit, ACCEPT)
    if accept == "false" and mode == "nvidia":
        findings.append(
            Finding(
                "error",
                "NVIDIA's toolkit is told to ignore the devices of unprivileged containers",
                "in attach mode nvidia sessions would start without their GPU",
                f"use CDI, or set {ACCEPT} = true in {TOOLKIT_CONFIG}",
            )
        )
    if accept != "false" and mode == "cdi" and "nvidia" in (info.get("Runtimes") or {}):
        findings.append(
            Finding(
                "warning",
                "containers started past the hub may take GPUs by an environment variable",
                "sessions are safe; with CDI nothing here needs the variable",
                f"set {ACCEPT} = false in {TOOLKIT_CONFIG}",
            )
        )
    swarm = _setting(toolkit, "swarm-resource")
    if swarm:
        findings.append(
            Finding(
                "error",
                f"NVIDIA's toolkit reads the variable {swarm} instead of NVIDIA_VISIBLE_DEVICES",
                "an image that sets it is given devices, whatever the hub says",
                f"remove swarm-resource from {TOOLKIT_CONFIG}",
            )
        )
    return findings


def _setting(text: str, key: str) -> str:
    """A top-level value of a TOML file, without quotes; empty when unset or commented out."""
    match = re.search(rf"^[ \t]*{re.escape(key)}[ \t]*=[ \t]*([^#\n]*)", text, re.MULTILINE)
    return match[1].strip().strip("\"'") if match else ""


def _name(uuid: str) -> str:
    return f"{CDI_KIND}={uuid}"
