"""Keeps the `HealthState` in a file, so that hub, service and command line agree on a card."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..placement.devices import Card, Device
from .health import CardMemory, HealthState

VERSION = 1


def load(path: Path) -> HealthState:
    """The remembered state; a missing, old or broken file is an empty memory."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            return HealthState()
        return HealthState(
            cards={uuid: _card(entry) for uuid, entry in data["cards"].items()},
            former={str(u): (str(card), str(when)) for u, (card, when) in data["former"].items()},
            xid=int(data["xid"]),
            boot=str(data["boot"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return HealthState()


def save(path: Path, state: HealthState) -> bool:
    """Write the state atomically; False where this process may not write there."""
    text = json.dumps({"version": VERSION, **asdict(state)}, indent=1)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
        return True
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return False


def _card(entry: dict[str, Any]) -> CardMemory:
    return CardMemory(
        **{
            **entry,
            "card": Card(**entry["card"]),
            "devices": tuple(Device(**device) for device in entry["devices"]),
        }
    )
