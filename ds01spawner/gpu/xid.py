"""Xid errors from the kernel log. Needs no NVML handle, which would stand in the way of MIG changes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from .reading import XidEvent

KMSG = Path("/dev/kmsg")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MAX_RECORDS = 20_000

_RECORD = re.compile(
    r"^\d+,(\d+),(\d+),[^;]*;NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)\b",
)


def parse(records: Iterable[str], uptime: float) -> tuple[XidEvent, ...]:
    """The Xid events among records of ``/dev/kmsg``; ``uptime`` is in seconds."""
    events = []
    for record in records:
        match = _RECORD.match(record)
        if match:
            age = max(0.0, uptime - int(match[2]) / 1e6)
            events.append(XidEvent(match[3], int(match[4]), int(match[1]), age))
    return tuple(events)


def read_xids(path: Path = KMSG, uptime: Path = Path("/proc/uptime")) -> tuple[XidEvent, ...] | None:
    """Xid events of the kernel log, or None where this process may not read it (a container, no root)."""
    try:
        seconds = float(uptime.read_text().split()[0])
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError, IndexError):
        return None
    try:
        return parse(_records(descriptor), seconds)
    finally:
        os.close(descriptor)


def boot_id(path: Path = BOOT_ID) -> str:
    """What tells this boot from others: the kernel log counts its records anew at each."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _records(descriptor: int) -> Iterable[str]:
    """One record a read, as the kernel hands them out, until there is no more."""
    for _ in range(MAX_RECORDS):
        try:
            chunk = os.read(descriptor, 8192)
        except BrokenPipeError:
            continue  # records were overwritten while we read; the next read goes on after them
        except OSError:
            return
        if not chunk:
            return
        # The kernel hands out one record a read, a plain file many; continuation lines begin with a space.
        yield from chunk.decode(errors="replace").splitlines()
