"""What ``ds01 check`` says about the GPUs of a host. Pure, but for `check_gpus`, which reads the host."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from pathlib import Path

from ...core.errors import EngineError
from ...core.settings import Settings
from ...gpu import read_gpu
from ...gpu.xid import read_xids
from ...placement.devices import Inventory
from ..base import Finding
from .answers import InfoJson
from .attach import REFRESH, Mode, cdi_problems, choose_attach, stale_names
from .cdi import cdi_names

ACCEPT = "accept-nvidia-visible-devices-envvar-when-unprivileged"
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"


def check_gpus(settings: Settings, info: InfoJson) -> list[Finding]:
    """Read GPUs, CDI files, NVIDIA's configuration and the kernel log, and judge them."""
    try:
        toolkit = Path(TOOLKIT_CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        toolkit = None
    inventory = read_gpu(settings).inventory
    return gpu_findings(info, inventory, settings.attach, None, toolkit, read_xids() is not None)


def gpu_findings(
    info: InfoJson,
    inventory: Inventory,
    wanted: str = "auto",
    names: AbstractSet[str] | None = None,
    toolkit: str | None = None,
    xids_readable: bool = True,
) -> list[Finding]:
    """What is right and wrong with the GPUs of the host whose engine answered ``info``.

    ``toolkit`` is the text of NVIDIA's ``config.toml``, or None where there is none or it cannot be read.
    """
    if inventory.state != "ok":
        return [Finding("error", "the GPUs cannot be read", inventory.reason)]
    known = cdi_names(info) if names is None else names
    try:
        attach = choose_attach(info, inventory, wanted, known)
    except EngineError as error:
        return [Finding("error", "no device can be attached", str(error), "correct attach in the settings")]
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
    if inventory.mode == "nvml" and not xids_readable:
        findings.append(
            Finding(
                "warning",
                "Xid errors cannot be read from the kernel log",
                "lost cards and memory errors are still seen, other faults of a card are not",
                "run the hub as root on the host, or give its container /dev/kmsg",
            )
        )
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


def _engine_findings(info: InfoJson, mode: Mode) -> list[Finding]:
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


def _toolkit_findings(info: InfoJson, mode: Mode, toolkit: str) -> list[Finding]:
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
