"""What this Docker engine enforces, from what it says about itself. Pure."""

from __future__ import annotations

from ..base import Capabilities
from .answers import InfoJson

_ASKED = {"memory": "MemoryLimit", "swap": "SwapLimit", "cpus": "CpuCfsQuota", "pids": "PidsLimit"}


def capabilities(info: InfoJson, aggregate_problem: str = "") -> Capabilities:
    """``info`` is the engine's answer; ``aggregate_problem`` why no ceiling can be enforced, or empty.

    An engine that does not say is believed to enforce: every session is verified at its start anyway.
    """
    known = {name: bool(info.get(key, True)) for name, key in _ASKED.items()}
    reasons = {
        name: "the engine says that this machine's kernel cannot" for name, can in known.items() if not can
    }
    if aggregate_problem:
        reasons["aggregate"] = aggregate_problem
    return Capabilities(**known, shm=True, aggregate=not aggregate_problem, devices=True, reasons=reasons)
