"""The idle service's last decisions, read from its file a few times a minute at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..core import text
from ..idle.idle_document import PublishedJson
from ..idle.model import Decision, Ground, Memory
from ..idle.state import IdleFiles

TTL_S = 5.0


@dataclass(frozen=True)
class Published:
    """Decisions by session id; ``stale`` when the idle service has not looked for long."""

    decisions: Mapping[str, Decision]
    stale: bool = False
    at: datetime | None = None


class Decisions:
    """Reads ``idle.json`` in a thread; those who ask within a few seconds share one reading."""

    def __init__(self, files: IdleFiles) -> None:
        self._files = files
        self._known = Published({})
        self._read_at = -TTL_S

    async def get(self, now: datetime) -> Published:
        """What was decided last. A decision that is too old explains nothing and is left out."""
        if time.monotonic() - self._read_at > TTL_S:
            document = await asyncio.to_thread(self._files.published, now)
            self._known, self._read_at = parse(document), time.monotonic()
        return self._known


def parse(document: PublishedJson | None) -> Published:
    """The file's document as values; what is not understood is left out."""
    if document is None:
        return Published({})
    at = text.parse_time(str(document.get("at", "")))
    if document.get("stale"):
        return Published({}, stale=True, at=at)
    found: dict[str, Decision] = {}
    for row in document.get("sessions", ()):
        try:
            found[str(row["session"])] = _decision(row)
        except (KeyError, TypeError, ValueError):
            continue
    return Published(found, at=at)


def _decision(row: Mapping[str, Any]) -> Decision:
    grounds = tuple(
        Ground(g["name"], g["verdict"], str(g["measured"]), str(g.get("threshold", ""))) for g in row["why"]
    )
    return Decision(
        state=row["state"],
        reason=str(row["reason"]),
        memory=Memory(str(row["session"])),
        why=grounds,
        cause=row.get("cause"),
        retire_at=text.parse_time(row.get("retire_at")),
        idle_seconds=float(row.get("idle_seconds") or 0.0),
        limit=float(row["limit"]) if row.get("limit") is not None else None,
        pressed=bool(row.get("pressed")),
    )
