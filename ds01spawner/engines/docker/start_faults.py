"""Whose fault it is that a container does not start: its devices', or the engine's own. Pure.

Two starts that fail on a device take it out of use for a while, so a full disk must not look like a bad card:
a night of it would put every device of the machine in quarantine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

SERVER_ERROR = 500
_DEVICE = re.compile(
    r"nvidia|nvml|\bcuda\b|\bcdi\b|device driver|custom device|device information|device node|unknown device"
    r"|unresolvable|\bmig\b|/dev/(?:nvidia|dri|kfd|char/)",
    re.IGNORECASE,
)
"""Words of runc, the engine and NVIDIA's tools where a device cannot be given: no such node, a MIG slice
that was re-made, a driver that fell off the bus, a CDI name that nothing explains."""
_OWN = re.compile(
    r"no space left on device|disk quota exceeded|input/output error|read-only file system"
    r"|cannot allocate memory|too many open files|resource temporarily unavailable|\bcgroup\b"
    r"|context (?:deadline exceeded|canceled)"
    r"|network [^ ]+ not found|address already in use|mount source|no such container"
    r"|executable file not found|containerd|connection refused|transport is closing",
    re.IGNORECASE,
)
"""Words for what no other device would change. "No space left on device" is about a disk."""


class Fault(Enum):
    """What a failed start says about the devices it was given."""

    DEVICE = "device"
    ENGINE = "engine"
    UNKNOWN = "unknown"
    """Neither: if another device does, it was this one."""


def fault(status: int, message: str, devices: Iterable[str] = (), written: Iterable[str] = ()) -> Fault:
    """Judge by the engine's answer. What names one of the ``devices`` is about it, whatever else it says.

    ``written`` are the names that people chose (user, project, server): engines repeat them in their words,
    as in the path of a mount, and a project called "nvidia" must not blame a card.
    """
    if status < SERVER_ERROR and status not in (400,):
        return Fault.ENGINE  # gone, in conflict, or not known there: nothing was tried on a device
    for name in sorted({n for n in written if n}, key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "", message, flags=re.IGNORECASE)
    if re.search(r"no space left on device|disk quota exceeded", message, re.IGNORECASE):
        return Fault.ENGINE
    if any(device in message for device in devices) or _DEVICE.search(message):
        return Fault.DEVICE
    return Fault.ENGINE if _OWN.search(message) else Fault.UNKNOWN
